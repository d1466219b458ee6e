"""Batch norm, with ReLU or without, and with a gradient that keeps little.

In training s(x) = max(0, scale (x - mean) / sqrt(var + epsilon) + bias), mean and var being those
of the batch. What the backward pass keeps is x as it is, and a mean and a scale a channel: it
computes the rest again, and reads x and the gradient of s(x) twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from mgnet_jax.models import norm_sums, pixels
from mgnet_jax.models.notation import ModelError

BN_EPSILON = 1e-5
MOMENTS = "moments"  # their name for `jax.checkpoint`
BN_MOMENTUM = 0.9  # of the running statistics; PyTorch calls the same thing momentum 0.1


class BatchNorm(nn.Module):
    """Batch norm over (N, H, W) as PyTorch computes it (Ioffe and Szegedy 2015).

    In training x is normalised with the batch's biased variance, and the running variance takes
    in the unbiased one; in evaluation the running statistics are used. The statistics are of the
    whole batch, also when it is sharded over devices. They are computed and kept in the type of
    the parameters, whatever the type of x.

    Attributes:
      param_dtype: that type.
      alone: whether it decides what the backward pass keeps, and no `jax.checkpoint` around it.
      native: whether CPUs may sum by code that is compiled where it runs, see norm_sums.py.

    Raises:
      ModelError: in training, with fewer than two values a channel: there is no variance.
    """

    param_dtype: Any = jnp.float32
    alone: bool = True
    native: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, relu: bool = False) -> jax.Array:
        """Normalises x (N, H, W, c); ReLU may follow."""
        c, dtype = x.shape[-1], self.param_dtype
        scale = self.param("scale", nn.initializers.ones, (c,), dtype)
        bias = self.param("bias", nn.initializers.zeros, (c,), dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,), dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,), dtype)
        if not train:
            mean, factor = running_mean.value, scale * lax.rsqrt(running_var.value + BN_EPSILON)
            return _apply(x, mean, factor, bias, relu)
        out, mean, var = normalise(x, scale, bias, relu, self.alone, self.native)
        if not self.is_initializing():
            count = x.size // c
            if count < 2:
                raise ModelError(
                    f"batch norm needs at least 2 values a channel to train on: here are "
                    f"{count}, a batch of {x.shape[0]} on a grid of {x.shape[1]}x{x.shape[2]}; "
                    f"take more images a batch (or larger images, or fewer grids)"
                )
            running_mean.value = _running(running_mean.value, mean)
            running_var.value = _running(running_var.value, var * (count / (count - 1)))
        return out


def _running(old: jax.Array, new: jax.Array) -> jax.Array:
    return BN_MOMENTUM * old + (1 - BN_MOMENTUM) * new


def _apply(
    x: jax.Array, mean: jax.Array, factor: jax.Array, bias: jax.Array, relu: bool
) -> jax.Array:
    y = (x.astype(mean.dtype) - mean) * factor + bias
    return (nn.relu(y) if relu else y).astype(x.dtype)


def moments(x: jax.Array, native: bool = False) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each channel of x (N, H, W, c), read once.

    Each image is shifted by its first pixel, which is near its mean, and the images are put
    together by their means (Chan, Golub and LeVeque 1983): there is no difference of large numbers.
    """
    first = x[:, 0, 0]
    if native:
        of_image, squares = (each / pixels.size(x) for each in norm_sums.squares(x, first))
    else:
        shifted = x - first[:, None, None]
        of_image, squares = pixels.mean(shifted), pixels.mean(jnp.square(shifted))
    means = first + of_image
    mean = jnp.mean(means, 0)
    within = jnp.maximum(squares - jnp.square(of_image), 0)
    return mean, jnp.mean(within + jnp.square(means - mean), 0)


def normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    relu: bool,
    alone: bool = True,
    native: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm by the batch's own moments, and these, as statistics without derivative.

    Args:
      x: (N, H, W, c) of any type.
      scale: (c,), of the type in which all is computed.
      bias: the same.
      relu: whether ReLU follows.
      alone: as in `BatchNorm`.
      native: the same.
    """
    native = native and norm_sums.takes(x, scale.dtype)
    return _normalise(x, scale, bias, relu, alone, native)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, alone: bool, native: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, var = moments(x.astype(scale.dtype), native)
    return _apply(x, mean, scale * lax.rsqrt(var + BN_EPSILON), bias, relu), mean, var


@_normalise.defjvp
def _normalise_jvp(relu: bool, alone: bool, native: bool, primals: Any, tangents: Any) -> Any:
    x, scale, bias = primals
    mean, var = (checkpoint_name(v, MOMENTS) for v in moments(x.astype(scale.dtype), native))
    inverse = lax.rsqrt(var + BN_EPSILON)
    out = _apply(x, mean, scale * inverse, bias, relu)
    change: Callable[..., jax.Array] = partial(_change, relu, native)
    if alone:  # what it takes is kept; its transpose, the backward pass, computes the rest again
        change = jax.checkpoint(change, prevent_cse=False)
    changes = change(x, mean, inverse, scale, bias, *tangents), jnp.zeros_like(mean)
    return (out, mean, var), (*changes, jnp.zeros_like(var))


def _change(
    relu: bool,
    native: bool,
    x: jax.Array,
    mean: jax.Array,
    inverse: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    dx: jax.Array,
    dscale: jax.Array,
    dbias: jax.Array,
) -> jax.Array:
    """The change of s(x), linear in dx, dscale and dbias.

    With z = (x - mean) / sqrt(var + epsilon) normalised, and <.> the mean over the batch, it is
    scale / sqrt(var + epsilon) (dx - <dx> - z <z dx>) + z dscale + dbias, where ReLU lets it
    through. So all of it that is not dx is z p + q with p and q a number a channel; and its
    transpose needs two sums over the batch.
    """
    z = (x.astype(mean.dtype) - mean) * inverse
    factor, wide = scale * inverse, dx.astype(mean.dtype)
    p = _to_images(dscale - factor * _mean(z * wide), x)
    q = _to_images(dbias - factor * _mean(wide), x)
    change = factor * wide
    if not native:
        change += z * pixels.spread(p, x.shape) + pixels.spread(q, x.shape)
    if relu:
        change = jnp.where(z * scale + bias > 0, change, 0)
    if native:  # the same, whose transpose are sums of one reading
        change += norm_sums.affine(p, q, x, mean, inverse, scale, bias, relu=relu)
    return change.astype(x.dtype)


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(pixels.mean(x), 0)


def _to_images(vector: jax.Array, x: jax.Array) -> jax.Array:
    """A number a channel, for each image: the transpose sums each image, then the images."""
    return jnp.broadcast_to(vector, (x.shape[0], x.shape[-1]))
