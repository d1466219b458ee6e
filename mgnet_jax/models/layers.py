"""Convolution, batch norm, initialisers and the pieces around the grids (PyTorch's conventions).

Arrays are NHWC, kernels HWIO (height, width, channels in, channels out). Where XLA's defaults and
PyTorch's differ, these follow PyTorch, with which the paper's numbers were made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

Array = jax.Array
Dtype = Any
Initializer = Callable[..., Array]

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9  # of the running statistics; PyTorch calls the same thing momentum 0.1


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolves x (N, H, W, c_in) with a kernel (k, k, c_in, c_out), without bias.

    Pads k // 2 zeros on every side, as PyTorch does; XLA's "SAME" would pad a stride-2 kernel on
    even sizes on one side only. The kernel is cast to x's type.

    Where JAX's default backend is the CPU, the gradients have a form of their own. XLA's CPU
    compiler rewrites the gradients' convolutions to a layout that has a fast kernel only outside
    loops: in `lax.scan` they fall back to a naive one. So the same sums are written in that layout
    to begin with (docs/decisions.md). Forward-mode differentiation then works only over reverse
    mode, as for Hessian-vector products.
    """
    on_cpu = jax.default_backend() == "cpu"
    return (_conv_on_cpu if on_cpu else _plain_conv)(x, kernel.astype(x.dtype), stride)


_lax_conv = partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _plain_conv(x: Array, kernel: Array, stride: int) -> Array:
    pad = kernel.shape[0] // 2
    return _lax_conv(x, kernel, (stride, stride), ((pad, pad), (pad, pad)))


def _conv_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _plain_conv(x, kernel, stride), (x, kernel)


def _conv_gradients(stride: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """Gradients of x and of the kernel as convolutions of NHWC arrays with HWIO kernels.

    g is the gradient of the output (N, H', W', c_out).
    """
    x, kernel = saved
    size = kernel.shape[0]
    pad = size // 2
    # rows (columns) of padded x beyond the last window's end: the stride left them out
    beyond = [
        n + 2 * pad - size - (n_out - 1) * stride
        for n, n_out in zip(x.shape[1:3], g.shape[1:3], strict=True)
    ]
    reflected = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    margins = [(size - 1 - pad, size - 1 - pad + b) for b in beyond]
    grad_x = _lax_conv(g, reflected, (1, 1), margins, lhs_dilation=(stride, stride))
    x_CHWN, g_HWNC = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3))
    margins = [(pad, pad - b) for b in beyond]
    grad_IHWO = _lax_conv(x_CHWN, g_HWNC, (1, 1), margins, rhs_dilation=(stride, stride))
    return grad_x, jnp.transpose(grad_IHWO, (1, 2, 0, 3))


_conv_on_cpu = jax.custom_vjp(_plain_conv, nondiff_argnums=(2,))
_conv_on_cpu.defvjp(_conv_forward, _conv_gradients)


def kernel_init(name: str, stacked: bool = False) -> Initializer:
    """The initialiser of convolution kernels and of the linear head's matrix.

    Args:
      name: "kaiming" (He et al. 2015, the paper's: normal, variance 2 / fan_in) or "pytorch"
        (PyTorch's default, the published script's: uniform, variance 1 / (3 fan_in)).
      stacked: the first axis counts kernels (one a smoothing step) and is not part of fan_in.
    """
    batch_axis = (0,) if stacked else ()
    if name == "kaiming":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=batch_axis)
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", batch_axis=batch_axis)


def bias_init(name: str, fan_in: int) -> Initializer:
    """The initialiser of the linear head's bias: zero, or PyTorch's as for the kernel."""
    if name == "kaiming":
        return nn.initializers.zeros
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(
        key, shape, dtype, minval=-bound, maxval=bound
    )


class BatchNorm(nn.Module):
    """Batch norm over (N, H, W) as PyTorch computes it (Ioffe and Szegedy 2015).

    In training x is normalised with the batch's biased variance, and the running variance takes
    in the unbiased one; in evaluation the running statistics are used. The statistics are of the
    whole batch, also when it is sharded over devices. They are computed and kept in the type of
    the parameters, whatever the type of x.
    """

    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        c, dtype = x.shape[-1], self.param_dtype
        scale = self.param("scale", nn.initializers.ones, (c,), dtype)
        bias = self.param("bias", nn.initializers.zeros, (c,), dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,), dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,), dtype)
        x_wide = x.astype(dtype)
        if train:
            axes = tuple(range(x.ndim - 1))
            count = x.size // c
            mean = jnp.mean(x_wide, axes)
            var = jnp.mean(jnp.square(x_wide - mean), axes)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = _running(running_mean.value, mean)
                running_var.value = _running(running_var.value, unbiased)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + BN_EPSILON)
        return ((x_wide - mean) * factor + bias).astype(x.dtype)


def _running(old: Array, new: Array) -> Array:
    return BN_MOMENTUM * old + (1 - BN_MOMENTUM) * lax.stop_gradient(new)


class ConvBNReLU(nn.Module):
    """ReLU(BN(conv(x))): the stem, and the transfers Pi and R between grids."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    initializer: str = "kaiming"
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init(self.initializer), shape, self.param_dtype)
        x = conv(x, kernel, self.stride)
        return nn.relu(BatchNorm(self.param_dtype, name="bn")(x, train))


class Stem(nn.Module):
    """The images' first data f^1: "cifar" (3x3) or "imagenet" (7x7 stride 2, max-pool 3x3/2)."""

    kind: str
    features: int
    initializer: str = "kaiming"
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        f = ConvBNReLU(
            self.features, size, stride, self.initializer, self.param_dtype, name="conv"
        )(images, train)
        if self.kind == "imagenet":
            f = nn.max_pool(f, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        return f


class Head(nn.Module):
    """Global average of u (N, H, W, c) and one linear layer with bias: logits (N, num_classes)."""

    num_classes: int
    initializer: str = "kaiming"
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, u: Array) -> Array:
        features = jnp.mean(u.astype(self.param_dtype), (1, 2))
        return nn.Dense(
            self.num_classes,
            param_dtype=self.param_dtype,
            dtype=self.param_dtype,
            kernel_init=kernel_init(self.initializer),
            bias_init=bias_init(self.initializer, features.shape[-1]),
            name="linear",
        )(features)
