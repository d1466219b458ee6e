"""Convolutions and their gradients by the compiled code: minimal filtering, or direct.

Minimal filtering is for 3x3 with stride and padding 1, the direct one for what else has enough to
compute. Arrays are NHWC, kernels HWIO.
"""

import math

import jax

from mgnet_jax.models import native
from mgnet_jax.models.geometry import Geometry

TILE, POINTS = 4, 36
"""Outputs of a tile a side, and its points, see `winograd`."""
_BLOCK = {"winograd_y": (12, 4096), "winograd_k": (8, 8192)}
"""Tiles at a time: a multiple of the one, at most the other if each has one channel."""


def filters(geometry: Geometry) -> bool:
    """Whether minimal filtering is there, and is faster than what else there is.

    Of few tiles the kernel's points are most of the work.
    """
    size, _, *channels = geometry.kernel
    if (size, geometry.stride, geometry.padding) != (3, 1, 1):
        return False
    return all(map(native.fits, channels)) and 8 * _tiles(geometry.x) >= max(channels)


def takes_direct(name: str, geometry: Geometry) -> bool:
    """Whether the direct one is there for a contraction ("y", "x" or "k"), and is faster.

    Each core has images of its own, so there are to be some for each.
    """
    *_, c_in, c_out = geometry.kernel
    return native.fits(c_in if name == "x" else c_out) and geometry.x[0] >= 4 * native.cores()


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x (N, H, W, c_in) with a kernel (3, 3, c_in, c_out) by minimal filtering."""
    return _filter("winograd_y", (*x.shape[:3], kernel.shape[3]), x, kernel)


def gradient_of_kernel(x: jax.Array, g: jax.Array) -> jax.Array:
    """From x (N, H, W, c_in) and the gradient g (N, H, W, c_out) of the output, the kernel's."""
    return _filter("winograd_k", (3, 3, x.shape[3], g.shape[3]), x, g)


def direct(name: str, a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """A contraction: "y" of x and the kernel, "x" of g and the kernel, or "k" of x and g."""
    shape = {"y": geometry.y, "x": geometry.x, "k": geometry.kernel}[name]
    scratch = (direct_elements(name, geometry),)
    window = {"stride": geometry.stride, "padding": geometry.padding}
    workers = min(native.cores(), geometry.x[0])
    return native.call(f"direct_{name}", (shape, scratch), a, b, **window, workers=workers)[0]


def direct_elements(name: str, geometry: Geometry) -> int:
    """What `direct` takes besides the arrays."""
    n, height, width, c_in = geometry.x
    workers, margins = min(native.cores(), n), 2 * geometry.padding
    kernel, image = math.prod(geometry.kernel), (height + margins) * (width + margins) * c_in
    if name == "k":
        return workers * (kernel + image + math.prod(geometry.y[1:]))
    return kernel + workers * image


def elements(name: str, x: tuple[int, ...], y: tuple[int, ...]) -> int:
    """What minimal filtering takes besides arrays of the shapes x and y, for "y" or "k"."""
    some, workers = _shares(f"winograd_{name}", x, y[3])
    matrices = workers if name == "k" else 1
    return POINTS * (matrices * x[3] * y[3] + workers * (some * (x[3] + y[3]) + 2 * 16))


def _tiles(x: tuple[int, ...]) -> int:
    return x[0] * -(-x[1] // TILE) * -(-x[2] // TILE)


def _shares(name: str, x: tuple[int, ...], c_out: int) -> tuple[int, int]:
    """How many tiles a worker takes at a time, so few that they stay in its cache; and workers."""
    (multiple, most), tiles, cores = _BLOCK[name], _tiles(x), native.cores()
    some = max(1, most // max(x[3], c_out) // multiple) * multiple
    some = min(some, -(-tiles // cores))
    return some, min(cores, -(-tiles // some))


def _filter(name: str, shape: tuple[int, ...], x: jax.Array, other: jax.Array) -> jax.Array:
    y = shape if name == "winograd_y" else other.shape
    some, workers = _shares(name, x.shape, y[3])
    scratch = (elements(name[-1], x.shape, y),)
    return native.call(name, (shape, scratch), x, other, some=some, workers=workers)[0]
