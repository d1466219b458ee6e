"""The one convolution of every network here, and which algorithm computes it.

Arrays are NHWC, kernels HWIO (height, width, channels in, channels out).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from mgnet_jax.models.notation import ModelError

ALGORITHMS = ("auto", "xla")


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    *,
    padding: int | None = None,
    groups: int = 1,
    algorithm: str = "auto",
) -> jax.Array:
    """Convolves x (N, H, W, c_in) with a kernel (k, k, c_in / groups, c_out), without bias.

    Pads `padding` zeros (default: k // 2) on every side, as PyTorch does; XLA's "SAME" would pad a
    stride-2 kernel on even sizes on one side only. The kernel is cast to x's type.

    With algorithm "auto", where JAX's default backend is the CPU, the gradients have a form of
    their own. XLA's CPU compiler rewrites the gradients' convolutions to a layout that has a fast
    kernel only outside loops: in `lax.scan` they fall back to a naive one. So the same sums are
    written in that layout to begin with (docs/decisions.md). With "xla", and on accelerators, they
    are XLA's own. Both can be differentiated in forward and in reverse mode, and again.

    Raises:
      ModelError: the padded grid is smaller than the kernel.
    """
    padding = kernel.shape[0] // 2 if padding is None else padding
    kernel = kernel.astype(x.dtype)
    if min(x.shape[1:3]) + 2 * padding < kernel.shape[0]:
        raise ModelError(
            f"a grid of {x.shape[1]}x{x.shape[2]} is too small for a kernel of {kernel.shape[0]}x"
            f"{kernel.shape[1]} with a padding of {padding}: take larger images, or another network"
        )
    if algorithm == "xla" or groups > 1 or jax.default_backend() != "cpu":
        return _plain_conv(x, kernel, stride=stride, padding=padding, groups=groups)
    return _conv_p.bind(x, kernel, stride=stride, padding=padding)


_lax_conv = partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _plain_conv(
    x: jax.Array, kernel: jax.Array, *, stride: int, padding: int, groups: int = 1
) -> jax.Array:
    margins = ((padding, padding), (padding, padding))
    return _lax_conv(x, kernel, (stride, stride), margins, feature_group_count=groups)


def _beyond(x: Any, kernel: Any, g: Any, stride: int, padding: int) -> list[int]:
    """Rows (columns) of padded x beyond the last window's end: the stride left them out."""
    sizes = zip(x.shape[1:3], g.shape[1:3], strict=True)
    return [n + 2 * padding - kernel.shape[0] - (n_out - 1) * stride for n, n_out in sizes]


def _gradient_of_x(g: jax.Array, x: Any, kernel: Any, *, stride: int, padding: int) -> Any:
    """From g (N, H', W', c_out), the gradient of the output; x is a shape alone."""
    size = kernel.shape[0]
    reflected = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    margin = size - 1 - padding
    margins = [(margin, margin + b) for b in _beyond(x.aval, kernel, g, stride, padding)]
    return _lax_conv(g, reflected, (1, 1), margins, lhs_dilation=(stride, stride))


def _gradient_of_kernel(g: jax.Array, x: Any, kernel: Any, *, stride: int, padding: int) -> Any:
    """From g (N, H', W', c_out), the gradient of the output; the kernel is a shape alone."""
    x_CHWN, g_HWNC = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3))
    margins = [(padding, padding - b) for b in _beyond(x, kernel.aval, g, stride, padding)]
    grad_IHWO = _lax_conv(x_CHWN, g_HWNC, (1, 1), margins, rhs_dilation=(stride, stride))
    return jnp.transpose(grad_IHWO, (1, 2, 0, 3))


def _one_batch(arguments: Any, axes: Any, *, stride: int, padding: int) -> tuple[jax.Array, int]:
    """vmap: images of a shared kernel are one larger batch; kernels of their own are XLA's case."""
    (x, kernel), (x_axis, kernel_axis) = arguments, axes
    if kernel_axis is not None:
        plain = partial(_plain_conv, stride=stride, padding=padding)
        return jax.vmap(plain, (x_axis, kernel_axis))(x, kernel), 0
    x = jnp.moveaxis(x, x_axis, 0)
    out = _conv_p.bind(x.reshape(-1, *x.shape[2:]), kernel, stride=stride, padding=padding)
    return out.reshape(*x.shape[:2], *out.shape[1:]), 0


def _abstract(x: Any, kernel: Any, *, stride: int, padding: int) -> Any:
    size, _, _, c_out = kernel.shape
    grid = [max(0, (n + 2 * padding - size) // stride + 1) for n in x.shape[1:3]]
    return jax.core.ShapedArray((x.shape[0], *grid, c_out), x.dtype)


_conv_p = Primitive("conv_with_gradients_for_loops")
_conv_p.def_impl(jax.jit(_plain_conv, static_argnames=("stride", "padding")))
_conv_p.def_abstract_eval(_abstract)
ad.defbilinear(_conv_p, _gradient_of_x, _gradient_of_kernel)
batching.primitive_batchers[_conv_p] = _one_batch
mlir.register_lowering(_conv_p, mlir.lower_fun(_plain_conv, multiple_results=False))
