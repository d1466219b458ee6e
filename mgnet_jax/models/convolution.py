"""The one convolution of every network here, and which algorithm computes it.

Arrays are NHWC, kernels HWIO (height, width, channels in, channels out).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from mgnet_jax.models import conv_cpu, winograd
from mgnet_jax.models.notation import ModelError

ALGORITHMS = ("auto", "xla", "minimal")
NARROW = 16
"""Channels of an output up to which it is computed by pairs of columns on CPUs."""
SMALL = 2**23
"""Multiply-adds below which CPUs take XLA's convolutions: they are done, and compiled, at once."""


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

    With algorithm "auto" a program for a CPU computes gradients in the layout that XLA's fast
    kernels for CPUs want, also in loops (docs/decisions.md); with "minimal" wide 3x3 convolutions
    are Winograd's minimal filtering there too, which is faster, takes more memory and compiles
    longer. The platform is the one that the program is compiled for. With "xla", for other
    platforms, and in float64, all are XLA's own. All can be differentiated in forward and in
    reverse mode, and again.

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
    if algorithm == "xla" or groups > 1:
        return _lax_conv(
            x, kernel, (stride, stride), ((padding, padding),) * 2, feature_group_count=groups
        )
    minimal = algorithm == "minimal"
    geometry = Geometry(x.shape, kernel.shape, stride, padding, minimal)
    return _conv_p.bind(x, kernel, geometry=geometry)


class Geometry(NamedTuple):
    """The shapes of a convolution.

    Attributes:
      x: of the images, (N, H, W, c_in).
      kernel: (k, k, c_in, c_out).
      stride, padding: in pixels, the same on all sides.
      minimal: whether CPUs may use Winograd's filtering.
    """

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    padding: int
    minimal: bool = False

    @property
    def y(self) -> tuple[int, ...]:
        """The shape of the result, (N, H', W', c_out)."""
        size, _, _, c_out = self.kernel
        grid = [(n + 2 * self.padding - size) // self.stride + 1 for n in self.x[1:3]]
        return self.x[0], *grid, c_out

    @property
    def small(self) -> bool:
        """Whether there is too little to compute for an algorithm of its own to be worth it."""
        return math.prod(self.y) * math.prod(self.kernel[:3]) < SMALL

    @property
    def beyond(self) -> list[int]:
        """Rows (columns) of padded x beyond the last window's end: the stride left them out."""
        sizes = zip(self.x[1:3], self.y[1:3], strict=True)
        return [
            n + 2 * self.padding - self.kernel[0] - (n_out - 1) * self.stride for n, n_out in sizes
        ]

    def batch(self, n: int) -> "Geometry":
        """The same with another number of images."""
        return self._replace(x=(n, *self.x[1:]))


_lax_conv = partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))

# A convolution y = x * k is bilinear, and its gradients are the two other contractions of the same
# three arrays, x of k and g, and k of x and g: each is the transpose of the others. So three
# primitives are enough for derivatives of any order, and each platform has its algorithm for each.


def _y(x: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    """The convolution."""
    margin = (geometry.padding, geometry.padding)
    return _lax_conv(x, kernel, (geometry.stride,) * 2, (margin, margin))


def _x(g: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    """From the gradient g of the result, that of x."""
    reflected = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    margin = kernel.shape[0] - 1 - geometry.padding
    margins = [(margin, margin + b) for b in geometry.beyond]
    return _lax_conv(g, reflected, (1, 1), margins, lhs_dilation=(geometry.stride,) * 2)


def _k(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """From the gradient g of the result, that of the kernel."""
    x_CHWN, g_HWNC = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(g, (1, 2, 0, 3))
    padding = geometry.padding
    margins = [(padding, padding - b) for b in geometry.beyond]
    grad_IHWO = _lax_conv(x_CHWN, g_HWNC, (1, 1), margins, rhs_dilation=(geometry.stride,) * 2)
    return jnp.transpose(grad_IHWO, (1, 2, 0, 3))


def _xla_k(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """The same as XLA's own."""
    like = jax.ShapeDtypeStruct(geometry.kernel, x.dtype)
    (grad,) = jax.linear_transpose(lambda k: _y(x, k, geometry=geometry), like)(g)
    return grad


def _minimal(geometry: Geometry, least: int) -> bool:
    """Whether to use Winograd's filtering: for 3x3, grids that large, and 96 channels and more.

    Below, its transforms cost more than they save (benchmarks/convolution.py).
    """
    plain = geometry.kernel[:2] == (3, 3) and (geometry.stride, geometry.padding) == (1, 1)
    return (
        geometry.minimal
        and plain
        and not geometry.small
        and min(geometry.x[1:3]) >= least
        and min(geometry.kernel[2:]) >= 96
    )


def _cpu_y(x: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    stride, padding, single = geometry.stride, geometry.padding, x.dtype == jnp.float32
    if single and _minimal(geometry, 24):
        return winograd.conv(x, kernel)
    if single and geometry.kernel[3] <= NARROW and not geometry.small:
        return conv_cpu.by_pairs(x, kernel, stride, [(padding, padding)] * 2)
    return _y(x, kernel, geometry=geometry)


def _cpu_x(g: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    if geometry.small:
        return _x(g, kernel, geometry=geometry)
    if geometry.stride > 1:
        grid, stride, padding = geometry.x[1:3], geometry.stride, geometry.padding
        return conv_cpu.gradient_of_images(g, kernel, grid, stride, padding)
    reflected, single = jnp.swapaxes(kernel[::-1, ::-1], 2, 3), g.dtype == jnp.float32
    if single and _minimal(geometry, 24):
        return winograd.conv(g, reflected)
    if single and geometry.kernel[2] <= NARROW:
        margin = kernel.shape[0] - 1 - geometry.padding
        return conv_cpu.by_pairs(g, reflected, 1, [(margin, margin)] * 2)
    return _x(g, kernel, geometry=geometry)


def _cpu_k(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    if x.dtype == jnp.float32 and _minimal(geometry, 12):
        return winograd.gradient_of_kernel(x, g)
    if geometry.small:
        return _k(x, g, geometry=geometry)
    size, stride, padding = geometry.kernel[0], geometry.stride, geometry.padding
    return conv_cpu.gradient_of_kernel(x, g, size, stride, padding)


def working_memory(name: str, geometry: Geometry, dtype: Any) -> int:
    """Bytes that a CPU takes for "conv_y", "conv_x" or "conv_k" besides what it reads and makes."""
    wide = max(4, jnp.dtype(dtype).itemsize)
    minimal = jnp.dtype(dtype) == jnp.float32 and _minimal(geometry, 12 if name == "conv_k" else 24)
    if minimal:
        return wide * winograd.working_elements(geometry.x, geometry.y)
    if geometry.small:
        return wide * (math.prod(geometry.x) + math.prod(geometry.y)) if name == "conv_k" else 0
    if name == "conv_k":
        shapes = geometry.x, geometry.y
        return wide * conv_cpu.working_elements(*shapes, geometry.kernel[0], geometry.stride)
    parts = name == "conv_x" and geometry.stride > 1
    return wide * math.prod(geometry.x) if parts else 0


def _on_cpus(one: Callable, several: Callable) -> Callable:
    """The lowering for CPUs: what one device runs may loop over images, which several divide."""
    lower_one, lower_several = (mlir.lower_fun(f, multiple_results=False) for f in (one, several))

    def lower(context: Any, *arguments: Any, **params: Any) -> Any:
        devices = getattr(context.module_context.axis_context, "num_devices", 1)
        return (lower_one if devices == 1 else lower_several)(context, *arguments, **params)

    return lower


def _primitive(
    name: str, result: str, xla: Callable, one: Callable, several: Callable
) -> Primitive:
    """A contraction of two arrays.

    Args:
      name: of the primitive, after "conv_".
      result: the name of its shape in `Geometry`.
      xla: computes it on accelerators.
      one: on a CPU that runs the program alone.
      several: on CPUs that run it together.
    """
    primitive = Primitive(f"conv_{name}")
    compiled = jax.jit(primitive.bind, static_argnames="geometry")

    def compute(a: jax.Array, b: jax.Array, *, geometry: Geometry) -> jax.Array:
        disabled = jax.config.values["jax_disable_jit"]  # then `compiled` would come here again
        return (xla if disabled else compiled)(a, b, geometry=geometry)

    primitive.def_impl(compute)

    def abstract(a: Any, b: Any, *, geometry: Geometry) -> Any:
        return jax.core.ShapedArray(getattr(geometry, result), a.dtype)

    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(primitive, _on_cpus(one, several), platform="cpu")
    return primitive


_conv_p = _primitive("y", "y", _y, _cpu_y, _y)
_conv_x_p = _primitive("x", "x", _x, _cpu_x, _x)
_conv_k_p = _primitive("k", "kernel", _xla_k, _cpu_k, _k)

ad.defbilinear(
    _conv_p,
    lambda g, x, kernel, *, geometry: _conv_x_p.bind(g, kernel, geometry=geometry),
    lambda g, x, kernel, *, geometry: _conv_k_p.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    _conv_x_p,  # of g and kernel
    lambda t, g, kernel, *, geometry: _conv_p.bind(t, kernel, geometry=geometry),
    lambda t, g, kernel, *, geometry: _conv_k_p.bind(t, g, geometry=geometry),
)
ad.defbilinear(
    _conv_k_p,  # of x and g
    lambda t, x, g, *, geometry: _conv_x_p.bind(g, t, geometry=geometry),
    lambda t, x, g, *, geometry: _conv_p.bind(x, t, geometry=geometry),
)


def _of_images(primitive: Primitive, arguments: Any, axes: Any, *, geometry: Geometry) -> Any:
    """vmap: images of a shared kernel are one larger batch; with kernels of their own, a loop."""
    (images, kernel), (axis, kernel_axis) = arguments, axes
    if kernel_axis is not None:
        return _one_by_one(primitive, arguments, axes, geometry=geometry)
    images = jnp.moveaxis(images, axis, 0)
    count, n = images.shape[:2]
    merged = images.reshape(count * n, *images.shape[2:])
    out = primitive.bind(merged, kernel, geometry=geometry.batch(count * n))
    return out.reshape(count, n, *out.shape[1:]), 0


def _one_by_one(primitive: Primitive, arguments: Any, axes: Any, *, geometry: Geometry) -> Any:
    """vmap, where the results are of kernels of their own."""
    size = next(a.shape[i] for a, i in zip(arguments, axes, strict=True) if i is not None)
    whole = [
        jnp.broadcast_to(a, (size, *a.shape)) if i is None else jnp.moveaxis(a, i, 0)
        for a, i in zip(arguments, axes, strict=True)
    ]
    return lax.map(lambda pair: primitive.bind(*pair, geometry=geometry), tuple(whole)), 0


batching.primitive_batchers[_conv_p] = partial(_of_images, _conv_p)
batching.primitive_batchers[_conv_x_p] = partial(_of_images, _conv_x_p)
batching.primitive_batchers[_conv_k_p] = partial(_one_by_one, _conv_k_p)
