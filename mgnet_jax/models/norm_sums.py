"""The sums over pixels that batch norm takes, each of one reading of its arrays.

They are of float32 images of which a CPU computes the program alone, by code of our own
(native.py); elsewhere, and where they are differentiated again, by what defines them here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from mgnet_jax.models import native, pixels, platforms


def takes(x: jax.Array, dtype: Any) -> bool:
    """Whether they are there for images x (N, H, W, c), computed in a type."""
    return x.dtype == dtype == jnp.float32 and native.fits(x.shape[-1])


def squares(x: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums (N, c) over the pixels of x - first, and of its square.

    Args:
      x: (N, H, W, c).
      first: (N, c), what is near the mean of each image.
    """
    return tuple(_squares_p.bind(x, first))


def affine(
    p: jax.Array,
    q: jax.Array,
    x: jax.Array,
    mean: jax.Array,
    inverse: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    relu: bool,
) -> jax.Array:
    """The array z p + q of all pixels, with z = (x - mean) inverse; its transpose is two sums.

    Args:
      p: (N, c), of each image and channel; it is linear in p and q.
      q: the same.
      x: (N, H, W, c).
      mean: (c,).
      inverse: (c,), of the deviation.
      scale: (c,), batch norm's.
      bias: the same.
      relu: whether it is 0 where z scale + bias, which ReLU follows, is not positive.
    """
    return _affine_p.bind(p, q, x, mean, inverse, scale, bias, relu=relu)[0]


def _squares(x: jax.Array, first: jax.Array) -> list[jax.Array]:
    shifted = x - first[:, None, None]
    return [pixels.sum(shifted), pixels.sum(jnp.square(shifted))]


def _affine(p: jax.Array, q: jax.Array, *rest: jax.Array, relu: bool) -> list[jax.Array]:
    z, lets_through = _normalised(*rest, relu=relu)
    change = z * pixels.spread(p, z.shape) + pixels.spread(q, z.shape)
    return [jnp.where(lets_through, change, 0)]


def _sums(g: jax.Array, *rest: jax.Array, relu: bool) -> list[jax.Array]:
    z, lets_through = _normalised(*rest, relu=relu)
    g = jnp.where(lets_through, g, 0)
    return [pixels.sum(z * g), pixels.sum(g)]


def _normalised(
    x: Any, mean: Any, inverse: Any, scale: Any, bias: Any, *, relu: bool
) -> tuple[jax.Array, Any]:
    z = (x - mean) * inverse
    return z, z * scale + bias > 0 if relu else True


def _primitive(name: str, plain: Callable, compiled: Callable, linear: int) -> Primitive:
    """An operation of several results, which has derivatives of any order.

    Args:
      name: of the primitive.
      plain: what defines it.
      compiled: computes it on a CPU that runs the program alone.
      linear: in so many of its first arguments it is linear.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(plain)

    def abstract(*arguments: Any, **params: Any) -> Any:
        out = jax.eval_shape(partial(plain, **params), *arguments)
        return [jax.core.ShapedArray(each.shape, each.dtype) for each in out]

    def change(primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        moved = [ad.instantiate_zeros(t) for t in tangents]
        given, rest = primals[:linear], primals[linear:]
        changes = primitive.bind(*moved[:linear], *rest, **params) if linear else None
        if any(type(t) is not ad.Zero for t in tangents[linear:]):
            _, others = jax.jvp(
                lambda *rest: plain(*given, *rest, **params), rest, tuple(moved[linear:])
            )
            changes = others if changes is None else jax.tree.map(jnp.add, changes, others)
        return out, changes

    def of_several(arguments: Any, axes: Any, **params: Any) -> Any:
        out = jax.vmap(partial(plain, **params), axes)(*arguments)
        return out, [0] * len(out)

    primitive.def_abstract_eval(abstract)
    platforms.lower(primitive, plain, compiled, plain)
    ad.primitive_jvps[primitive] = change
    batching.primitive_batchers[primitive] = of_several
    return primitive


def _compiled(name: str) -> Callable:
    def sums(*arrays: jax.Array, **options: bool) -> list[jax.Array]:
        n, _, _, c = arrays[0].shape
        workers = min(native.cores(), n)
        return native.call(name, ((n, c), (n, c)), *arrays, workers=workers, **options)

    return sums


_squares_p = _primitive("norm_squares", _squares, _compiled("norm_squares"), 0)
_affine_p = _primitive("norm_affine", _affine, _affine, 2)
_sums_p = _primitive("norm_sums", _sums, _compiled("norm_sums"), 1)


def _transposed_affine(g: Any, p: Any, q: Any, *rest: Any, relu: bool) -> Any:
    p_and_q = _sums_p.bind(ad.instantiate_zeros(g[0]), *rest, relu=relu)
    return [*p_and_q, *[None] * len(rest)]


def _transposed_sums(p_and_q: Any, g: Any, *rest: Any, relu: bool) -> Any:
    g_made = _affine_p.bind(*map(ad.instantiate_zeros, p_and_q), *rest, relu=relu)
    return [*g_made, *[None] * len(rest)]


ad.primitive_transposes[_affine_p] = _transposed_affine
ad.primitive_transposes[_sums_p] = _transposed_sums
