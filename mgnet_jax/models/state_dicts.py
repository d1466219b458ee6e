"""Which network a state dict of PyTorch is of, found out from its names and shapes."""

import re
from collections.abc import Mapping

import numpy as np

from mgnet_jax.models.alexnet import AlexNetSpec
from mgnet_jax.models.deep_resnet import IMAGENET_BLOCKS, DeepSpec
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.models.notation import ModelError, Spec
from mgnet_jax.models.resnet import DEPTHS, ResNetSpec
from mgnet_jax.models.vgg import VGG19Spec

Arrays = Mapping[str, np.ndarray]

WRAPPER = re.compile(r"(module|_orig_mod)\.")


def unwrapped(state: Arrays) -> dict[str, np.ndarray]:
    """The state dict without what DataParallel and torch.compile put before its names."""
    return {WRAPPER.sub("", name): x for name, x in state.items()}


def identify(state: Arrays) -> tuple[Spec, str, int, int]:
    """Which network a state dict is of: its spec, its stem, its classes, channels of its images.

    Raises:
      ModelError: it is none of those that have names here.
    """
    stem = "imagenet"
    if "layer0.0.S.weight" in state:
        spec: Spec = _identify_mgnet(state)
        stem = "imagenet" if _there(state, "conv1.weight").shape[-1] == 7 else "cifar"
    elif "layer1.0.conv1.weight" in state:
        spec = _identify_resnet(state)
    elif "features.34.weight" in state and "classifier.6.weight" in state:
        spec = VGG19Spec()
    elif "features.10.weight" in state and "classifier.6.weight" in state:
        spec = AlexNetSpec("torchvision")
    else:
        found = ", ".join([*state][:4]) or "nothing"
        raise ModelError(
            f"the arrays ({found}, ...) are those of no network that is known here: the published "
            f"script's MgNets have layer0.0.S.weight, torchvision's ResNets layer1.0.conv1.weight, "
            f"its AlexNet and VGG19 features.0.weight"
        )
    plain = "features.0.weight" in state
    head = _there(state, "classifier.6.weight" if plain else "fc.weight")
    first = _there(state, "features.0.weight" if plain else "conv1.weight")
    return spec, stem, head.shape[0], first.shape[1]


def _there(state: Arrays, name: str) -> np.ndarray:
    """An array that any such network has."""
    if name not in state:
        raise ModelError(f"the arrays are a part of a network's: {name} is missing")
    return state[name]


def _identify_mgnet(state: Arrays) -> MgNetSpec:
    nu: list[int] = []
    channels: list[tuple[int, int]] = []
    shared = True
    while f"layer{len(nu)}.{int(bool(nu))}.S.weight" in state:
        layer, first = f"layer{len(nu)}", int(bool(nu))
        kernels: list[np.ndarray] = []
        while (name := f"{layer}.{first + len(kernels)}.S.weight") in state:
            kernels.append(state[name])
        shared = shared and all(np.array_equal(k, kernels[0]) for k in kernels)
        nu.append(len(kernels))
        channels.append((kernels[0].shape[0], kernels[0].shape[1]))
    return MgNetSpec(tuple(nu), tuple(channels), shared)


def _identify_resnet(state: Arrays) -> Spec:
    blocks = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{n}.")})
        for n in (1, 2, 3, 4)
    )
    if "layer1.0.conv3.weight" not in state and blocks in DEPTHS.values():
        return ResNetSpec(blocks, (64, 128, 256, 512))
    if "layer1.0.conv3.weight" in state and blocks in IMAGENET_BLOCKS.values():
        depth = next(d for d, counts in IMAGENET_BLOCKS.items() if counts == blocks)
        return DeepSpec(depth, state["layer1.0.conv1.weight"].shape[0] // 64)
    raise ModelError(
        f"a ResNet of {blocks} blocks is none of those with 18, 34, 50, 101 or 152 layers"
    )
