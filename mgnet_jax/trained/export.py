"""A trained network written for others: a folder that takes neither the run nor its data."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from mgnet_jax.models import ModelError, torch_module
from mgnet_jax.models import pytorch as layouts
from mgnet_jax.trained import onnx
from mgnet_jax.trained.card import model_card
from mgnet_jax.trained.network import Trained
from mgnet_jax.training.files import replace_file
from mgnet_jax.weights import folder
from mgnet_jax.weights.facts import Weights, WeightsError

PLATFORMS = ("cpu", "cuda", "tpu")
STABLEHLO, ONNX = "model.stablehlo", "model.onnx"
PYTORCH, MODULE = "pytorch_model.safetensors", "torch_model.py"


def export(
    weights: Weights,
    out: Path,
    stablehlo: Sequence[str] = (),
    pytorch: bool = False,
    with_onnx: bool = False,
) -> dict[str, str]:
    """Writes a network into a folder, which may hold an older one of the same.

    Args:
      weights: the network.
      out: folder; made if missing.
      stablehlo: platforms out of `PLATFORMS` to write a compiled-language program for.
      pytorch: write its state dict for PyTorch too, and how to make the network there.
      with_onnx: write an ONNX model too.

    Returns:
      What each file is, for people, by its name.

    Raises:
      OSError: the folder cannot be written.
      WeightsError: PyTorch has no such network, there is no such platform, or no jax2onnx.
    """
    trained = Trained(weights)
    files = folder.content(weights)
    about = {
        folder.ARRAYS: "the variables",
        folder.FACTS: "the network, its classes, its scale, and how it was trained",
    }
    if stablehlo:
        files[STABLEHLO] = program(trained, stablehlo)
        about[STABLEHLO] = f"uint8 images (N, H, W, C) to logits, for {', '.join(stablehlo)}"
    if with_onnx:
        files[ONNX] = onnx.program(trained)
        about[ONNX] = "uint8 images (n, H, W, C) to logits, in ONNX"
    if pytorch:
        files |= for_pytorch(trained)
        about[PYTORCH] = "its state dict"
        about[MODULE] = "how to make and load it in PyTorch"
    files["README.md"] = model_card(weights.facts, count(weights), about).encode()
    about["README.md"] = "the model card"
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(out / name, content)
    return about


def count(weights: Weights) -> int:
    """The trainable parameters."""
    return sum(x.size for name, x in weights.variables.items() if name.startswith("params/"))


def program(trained: Trained, platforms: Sequence[str]) -> bytes:
    """StableHLO with the weights inside: uint8 images (N, H, W, C), any N, to logits (N, classes).

    `jax.export.deserialize` reads it, without this package; JAX promises to read it for six months.

    Raises:
      WeightsError: there is no such platform.
    """
    if unknown := [name for name in platforms if name not in PLATFORMS]:
        raise WeightsError(f"--stablehlo={unknown[0]}: there are {', '.join(PLATFORMS)}")
    # XLA's own convolutions: the other algorithms are for the processors of this machine
    plain = Trained(Weights(trained.facts, trained.arrays), convolution="xla")
    with plain.precision():
        (n,) = jax.export.symbolic_shape("n")
        images = jax.ShapeDtypeStruct((n, *trained.facts.image_shape), np.uint8)
        variables = plain.variables
        exported = jax.export.export(
            jax.jit(lambda x: plain.logits_of(variables, x)), platforms=[*platforms]
        )(images)
        return bytes(exported.serialize())


def for_pytorch(trained: Trained) -> dict[str, bytes]:
    """The files of a network for PyTorch.

    Raises:
      WeightsError: PyTorch has no names for its arrays.
    """
    spec, stem = trained.model.spec, trained.facts.stem
    try:
        state = layouts.to_pytorch(trained.arrays, spec, stem)
    except ModelError as error:
        raise WeightsError(f"--pytorch: {error}") from None
    facts = trained.facts
    module = torch_module.text(
        trained.model, facts.image_shape, facts.mean, facts.std, facts.class_names
    )
    return {PYTORCH: folder.arrays_content(state), MODULE: module.encode()}
