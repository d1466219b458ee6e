"""What the tests of networks share: a batch, variables away from their defaults, an outcome."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.models import Network, native

needs_compiler = pytest.mark.skipif(
    not native.possible(), reason=f"there is no {native.compiler()[0]} here"
)

SMALL = {
    "mgnet": "MgNet[3,1]-[(6,4),(5,7)]-B^{l,i}",
    "data-feature": "DataFeature(sKs,Ks)[3,1]-[(3,4),(4,2)]-B^l",
    "resnet": "ResNet[3,3]-[4,6]-A^l-B^{l,i}",
    "resnet-table3": "ResNet[3,3]-[4,6]-A^{l,i}-B^l@table3",
    "pre-act": "pre-act ResNet[3,3]-[4,6]-A^{l,i}-B^l",
    "pre-act-table3": "pre-act ResNet[3,3]-[4,6]-A^l-B^l@table3",
    "bottleneck": "pre-act ResNet29",
    "wide": "WRN-22-1-dropout0.3",
    "alexnet": "AlexNet",
    "vgg": "VGG19",
}
"""A small network of every family and reading."""


def images_and_variables(
    model: Network, dtype: Any = np.float32, shape: tuple[int, ...] = (5, 8, 7, 2)
) -> tuple[jax.Array, Any]:
    """A batch, and variables in which every parameter and statistic is away from its default.

    Made with NumPy, without compiling anything; networks with the same tree get the same numbers.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=shape).astype(dtype)

    def value(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name, x = path[-1].key, rng.normal(size=leaf.shape)
        if name in ("scale", "var"):
            x = 1 + 0.1 * np.abs(x)
        elif name in ("bias", "mean"):
            x = 0.1 * np.abs(x)
        else:
            x *= np.sqrt(2 / np.prod(leaf.shape[-4:-1]))
        return x.astype(leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree_util.tree_map_with_path(value, shapes)
    return jnp.asarray(images), jax.tree.map(jnp.asarray, variables)


QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""XLA's options for small networks, which otherwise take much longer to compile than to run."""
if jax.__version_info__ < (0, 11):  # later ones do not have it
    QUICK["xla_cpu_use_fusion_emitters"] = False


def outcome(
    model: Network, images: jax.Array, variables: Any, train: bool, quick: bool = False
) -> Any:
    """Logits, gradients of all parameters, and new batch statistics."""

    def loss(params: Any) -> Any:
        logits, new = model.apply(
            {**variables, "params": params},
            images,
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(3)},
        )
        weights = jnp.arange(logits.size).reshape(logits.shape)
        return jnp.sum(jnp.sin(logits) * weights), (logits, new.get("batch_stats", {}))

    gradient = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK if quick else None)
    grads, (logits, stats) = gradient(variables["params"])
    return {"logits": logits, "grads": grads, "batch_stats": stats}


def largest_difference(a: Any, b: Any) -> float:
    """Largest difference of two trees, each leaf relative to its largest entry."""
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    return max(
        float(jnp.abs(x - y).max() / jnp.maximum(jnp.abs(y).max(), 1e-30))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if x.size
    )
