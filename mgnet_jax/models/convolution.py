"""The one convolution of every network here, and which algorithm computes it.

Arrays are NHWC, kernels HWIO (height, width, channels in, channels out).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from mgnet_jax.models import conv_cpu, native, native_conv, platforms, winograd
from mgnet_jax.models.geometry import Geometry
from mgnet_jax.models.notation import ModelError

ALGORITHMS = ("auto", "xla", "minimal", "native")
NARROW = 16
"""Channels of an output up to which it is computed by pairs of columns on CPUs."""


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
    longer; with "native" those of channels in multiples of 16 are by code that the machine's C++
    compiler makes, see `native_conv`, which is fastest. The platform is the one that the program is
    compiled for. With "xla", for other platforms, and in float64, all are XLA's own. All can be
    differentiated in forward and in reverse mode, and again.

    Raises:
      ModelError: the padded grid is smaller than the kernel; or "native" cannot be compiled.
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
    if algorithm == "native" and jax.default_backend() == "cpu":
        native.load()  # a message from here is shorter than from inside the compiler
    geometry = Geometry(x.shape, kernel.shape, stride, padding, algorithm)
    return _conv_p.bind(x, kernel, geometry=geometry)


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
    margin = kernel.shape[0] - 1 - geometry.padding
    margins = [(margin, margin + b) for b in geometry.beyond]
    return _lax_conv(g, _reflected(kernel), (1, 1), margins, lhs_dilation=(geometry.stride,) * 2)


def _reflected(kernel: jax.Array) -> jax.Array:
    """The kernel of the gradient of x at stride 1."""
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


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


def _algorithm(name: str, geometry: Geometry, dtype: Any) -> str:
    """What one CPU computes a contraction ("y", "x" or "k") by, from benchmarks/convolution.py.

    Winograd's filtering is for 3x3 on large grids of 96 channels and more: below, its transforms
    cost more than they save.
    """
    single = dtype == jnp.float32
    if geometry.small:
        return "xla"
    plain = geometry.kernel[:2] == (3, 3) and (geometry.stride, geometry.padding) == (1, 1)
    large = min(geometry.x[1:3]) >= (12 if name == "k" else 24) and min(geometry.kernel[2:]) >= 96
    if geometry.algorithm == "native" and single:
        if native_conv.filters(geometry):
            return "native"
        if native_conv.takes_direct(name, geometry):
            return "direct"
    if geometry.algorithm == "minimal" and single and plain and large:
        return "minimal"
    if name == "k":
        return "products"
    if name == "x" and geometry.stride > 1:
        return "sub-pixel"
    narrow = geometry.kernel[3 if name == "y" else 2] <= NARROW
    return "pairs" if single and narrow else "xla"


def _cpu_y(x: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    stride, padding = geometry.stride, geometry.padding
    match _algorithm("y", geometry, x.dtype):
        case "native":
            return native_conv.conv(x, kernel)
        case "direct":
            return native_conv.direct("y", x, kernel, geometry)
        case "minimal":
            return winograd.conv(x, kernel)
        case "pairs":
            return conv_cpu.by_pairs(x, kernel, stride, [(padding, padding)] * 2)
    return _y(x, kernel, geometry=geometry)


def _cpu_x(g: jax.Array, kernel: jax.Array, *, geometry: Geometry) -> jax.Array:
    reflected, margin = _reflected(kernel), kernel.shape[0] - 1 - geometry.padding
    match _algorithm("x", geometry, g.dtype):
        case "native":
            return native_conv.conv(g, reflected)
        case "direct":
            return native_conv.direct("x", g, kernel, geometry)
        case "minimal":
            return winograd.conv(g, reflected)
        case "pairs":
            return conv_cpu.by_pairs(g, reflected, 1, [(margin, margin)] * 2)
        case "sub-pixel":
            grid, stride, padding = geometry.x[1:3], geometry.stride, geometry.padding
            return conv_cpu.gradient_of_images(g, kernel, grid, stride, padding)
    return _x(g, kernel, geometry=geometry)


def _cpu_k(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    size, stride, padding = geometry.kernel[0], geometry.stride, geometry.padding
    match _algorithm("k", geometry, x.dtype):
        case "native":
            return native_conv.gradient_of_kernel(x, g)
        case "direct":
            return native_conv.direct("k", x, g, geometry)
        case "minimal":
            return winograd.gradient_of_kernel(x, g)
        case "products":
            return conv_cpu.gradient_of_kernel(x, g, size, stride, padding)
    return _k(x, g, geometry=geometry)


def working_memory(name: str, geometry: Geometry, dtype: Any) -> int:
    """Bytes that a CPU takes for "conv_y", "conv_x" or "conv_k" besides what it reads and makes."""
    x, y, short = geometry.x, geometry.y, name.removeprefix("conv_")
    match _algorithm(short, geometry, jnp.dtype(dtype)):
        case "native":
            elements = native_conv.elements("k" if short == "k" else "y", x, y)
        case "direct":
            elements = native_conv.direct_elements(short, geometry)
        case "minimal":
            elements = winograd.working_elements(x, y)
        case "products":
            elements = conv_cpu.working_elements(x, y, geometry.kernel[0], geometry.stride)
        case "sub-pixel":
            elements = math.prod(x)
        case "xla" if short == "k":  # in another layout
            elements = math.prod(x) + math.prod(y)
        case _:
            elements = 0
    return elements * max(4, jnp.dtype(dtype).itemsize)


def in_two_parts(name: str, geometry: Geometry, dtype: Any) -> bool:
    """Whether a CPU computes a gradient of a kernel in a loop, and what is left after it."""
    if name != "conv_k" or _algorithm("k", geometry, jnp.dtype(dtype)) != "products":
        return False
    return conv_cpu.leaves_some(geometry.x, geometry.y, geometry.kernel[0], geometry.stride)


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
    platforms.lower(primitive, xla, one, several)
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
