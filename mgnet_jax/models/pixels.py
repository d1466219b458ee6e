"""Sums over the pixels of each image, as what each platform is fast at.

On CPUs they are products of matrices: XLA's own sums over all but the channels, which lie side by
side in memory, run there at a sixth of the speed with 128 channels (docs/decisions.md).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from mgnet_jax.models import platforms


def mean(x: jax.Array) -> jax.Array:
    """The mean over the pixels of each image of x (N, H, W, c): (N, c), of x's type."""
    return sum(x) / size(x)


def sum(x: jax.Array) -> jax.Array:
    """The sum, the same."""
    return _sum_p.bind(x)


def size(x: jax.Array) -> int:
    """How many pixels an image has."""
    return x.shape[1] * x.shape[2]


def spread(v: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A number v (N, c) of each image and channel at every pixel of a shape (N, H, W, c)."""
    return _spread_p.bind(v, grid=shape[1:3])


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, (1, 2))


def _product(x: jax.Array) -> jax.Array:
    n, height, width, c = x.shape
    ones, batch = jnp.ones((n, 1, height * width), x.dtype), ((0,), (0,))
    x = x.reshape(n, height * width, c)
    return lax.dot_general(ones, x, (((2,), (1,)), batch), precision="highest")[:, 0]


def _spread(v: jax.Array, *, grid: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(v[:, None, None], (v.shape[0], *grid, v.shape[1]))


def _primitive(name: str, compute: Callable, on_cpus: Callable, shape: Callable) -> Primitive:
    """A linear function of one array of images, with vmap over more of them."""
    primitive = Primitive(name)
    primitive.def_impl(compute)

    def abstract(x: Any, **params: Any) -> Any:
        return jax.core.ShapedArray(shape(x.shape, **params), x.dtype)

    def of_images(arguments: Any, axes: Any, **params: Any) -> tuple[jax.Array, int]:
        x = jnp.moveaxis(arguments[0], axes[0], 0)
        out = primitive.bind(x.reshape(-1, *x.shape[2:]), **params)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0

    primitive.def_abstract_eval(abstract)
    platforms.lower(primitive, compute, on_cpus, on_cpus)
    batching.primitive_batchers[primitive] = of_images
    return primitive


_sum_p = _primitive("pixel_sum", _sum, _product, lambda x: (x[0], x[3]))
_spread_p = _primitive("pixel_spread", _spread, _spread, lambda v, grid: (v[0], *grid, v[1]))
# each is the other's transpose
ad.deflinear2(_sum_p, lambda g, x: [_spread_p.bind(g, grid=x.aval.shape[1:3])])
ad.deflinear2(_spread_p, lambda g, v, *, grid: [_sum_p.bind(g)])
