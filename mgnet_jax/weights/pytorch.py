"""Weights out of files of PyTorch: torchvision's networks and the published MgNet.

A .safetensors file is read without PyTorch; .pt and .pth take it, with `weights_only`, so that
nothing in them is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgnet_jax.data.sources import IMAGENET_MOMENTS, SETS
from mgnet_jax.models import ModelError, state_dicts
from mgnet_jax.models import pytorch as layouts
from mgnet_jax.weights import folder
from mgnet_jax.weights.facts import Facts, Weights, WeightsError

WRAPPERS = ("state_dict", "model", "net", "model_state_dict")
"""The names under which scripts keep a state dict among other things."""
SCRIPT_STD = (0.2023, 0.1994, 0.2010)
SCRIPT_MEAN = (0.4914, 0.4822, 0.4465)
"""The published script's for CIFAR-10; its others are those of the sets."""


def read(path: Path) -> Weights:
    """The network whose state dict a file holds, found out from its names and shapes.

    Raises:
      WeightsError: it cannot be read, or is that of no network that is known.
    """
    arrays = folder.read_arrays(path) if path.suffix == ".safetensors" else _load(path)
    state = state_dicts.unwrapped(arrays)
    try:
        spec, stem, classes, channels = state_dicts.identify(state)
        variables = layouts.from_pytorch(state, spec, stem)
    except ModelError as error:
        raise WeightsError(f"{path}: {error}") from None
    published = layouts.layout_of(spec, stem) == layouts.PUBLISHED
    whose = "the published script" if published else "torchvision"
    shape, mean, std, name = _images(classes, channels, stem)
    data = SETS[name].info if name else None
    wide = {x.dtype for x in variables.values()} == {np.dtype(np.float64)}
    facts = Facts(
        spec=str(spec),
        stem=stem,
        num_classes=classes,
        image_shape=shape,
        mean=mean,
        std=std,
        dtype="float64" if wide else "float32",
        shorter_side=round(shape[0] * 8 / 7) if stem == "imagenet" else 0,
        data=name,
        train_size=data.train_size if data else 0,
        test_size=data.test_size if data else 0,
        source=f"{path.name}, with the names of {whose}",
    )
    kind = np.float64 if wide else np.float32
    return Weights(facts, {name: x.astype(kind) for name, x in variables.items()})


def _images(
    classes: int, channels: int, stem: str
) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...], str]:
    """Shape, mean and std of the images that such a network is trained on, and the set's name."""
    if stem == "imagenet":
        return (224, 224, channels), *IMAGENET_MOMENTS, ""
    if channels == 1:
        info = SETS["mnist"].info
    else:
        info = SETS["cifar100" if classes == 100 else "cifar10"].info
    mean, std = (SCRIPT_MEAN, SCRIPT_STD) if info.name == "cifar10" else (info.mean, info.std)
    return info.image_shape, mean, std, info.name if classes == info.num_classes else ""


def _load(path: Path) -> Mapping[str, np.ndarray]:
    """The state dict in a file of torch.save."""
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path}: reading a file of torch.save takes PyTorch: pip install torch, or save the "
            f"state dict as .safetensors"
        ) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a file leads to
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights alone ({first}); save it anew with "
            f"torch.save(model.state_dict(), FILE)"
        ) from None
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(hasattr(x, "numpy") for x in found.values()):
        raise WeightsError(f"{path} holds {type(found).__name__}, and no state dict of tensors")
    return {name: _numbers(x) for name, x in found.items()}


def _numbers(x: Any) -> np.ndarray:
    """A tensor as an array; half precision becomes float32."""
    x = x.detach()
    return (x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy()
