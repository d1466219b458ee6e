"""ONNX by jax2onnx, an optional package: the only place that knows it."""

import importlib.util
import logging

import jax
import numpy as np

from mgnet_jax.trained.network import Trained
from mgnet_jax.weights.facts import Weights, WeightsError

EXTRA = "pip install onnx onnx-ir onnxruntime && pip install --no-deps jax2onnx"
"""Without its dependencies: those ask for older packages than ours, and it needs none of them."""


def require() -> None:
    """Raises WeightsError if jax2onnx is not installed."""
    if importlib.util.find_spec("jax2onnx") is None:
        raise WeightsError(f"--onnx needs jax2onnx: {EXTRA}")


def program(trained: Trained) -> bytes:
    """An ONNX model: uint8 images (n, H, W, C), any n, to logits (n, classes).

    The network is traced before jax2onnx sees it, which puts functions of its own in JAX's place
    while it traces, and those cannot do Flax's scan.

    Raises:
      WeightsError: jax2onnx is not installed.
    """
    require()
    logging.getLogger("jax2onnx").setLevel(logging.CRITICAL)  # of its own examples
    from jax.extend.core import jaxpr_as_fun
    from jax2onnx import to_onnx

    # XLA's own convolutions: the other algorithms are for the processors of this machine
    plain = Trained(Weights(trained.facts, trained.arrays), convolution="xla")
    shape = trained.facts.image_shape
    with plain.precision():
        variables = plain.variables
        (n,) = jax.export.symbolic_shape("n")
        images = jax.ShapeDtypeStruct((n, *shape), np.uint8)
        traced = jax.make_jaxpr(lambda x: plain.logits_of(variables, x))(images)
        model = to_onnx(
            lambda x: jaxpr_as_fun(traced)(x)[0],
            [images],
            model_name="mgnet_jax",
            enable_double_precision=trained.facts.dtype == "float64",
        )
    return bytes(model.SerializeToString())
