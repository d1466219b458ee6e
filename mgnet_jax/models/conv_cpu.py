"""A convolution and its gradients, written as what XLA is fast at on CPUs.

Of few channels, two neighbouring columns of the output are computed as one with twice the channels.

The kernel's gradient, at each place (a, b), is the product of x, shifted by (a, b), and of g, the
gradient of the output. With stride 1 the shift is shared: x is shifted by all b, g by all a, and
all places are the blocks of one product of matrices with k c_in and k c_out columns. Some images at
a time, so that their shifted copies stay in the cache.

The gradient of x with stride s is s^2 convolutions of g with stride 1, one for the pixels of each
remainder (sub-pixel convolution; Shi et al. 2016); XLA's own multiplies zeros between g's pixels.

Arrays are NHWC, kernels HWIO. benchmarks/convolution.py measures them.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SLICE = 2**19
"""Elements of the larger one of the shifted copies that are made at a time."""


_conv = partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_pairs(
    x: jax.Array, kernel: jax.Array, stride: int, margins: Sequence[tuple[int, int]]
) -> jax.Array:
    """Convolves x (N, H, W, c_in) with a kernel (k, k, c_in, c_out), two columns at a time.

    The kernel of a pair is as wide as what both see, with zeros for what one does not.

    Args:
      x: (N, H, W, c_in).
      kernel: (k, k, c_in, c_out).
      stride: in pixels.
      margins: zeros before and after the rows, and the columns.
    """
    size, _, c_in, c_out = kernel.shape
    columns = (x.shape[2] + sum(margins[1]) - size) // stride + 1
    pairs = -(-columns // 2)
    ends = [(0, stride), (stride, 0)]
    both = jnp.stack([jnp.pad(kernel, ((0, 0), end, (0, 0), (0, 0))) for end in ends], 3)
    both = both.reshape(size, size + stride, c_in, 2 * c_out)
    right = (2 * pairs - 1) * stride + size - x.shape[2] - margins[1][0]
    margins = (margins[0], (margins[1][0], right))
    y = _conv(x, both, (stride, 2 * stride), margins)
    return y.reshape(*y.shape[:2], 2 * pairs, c_out)[:, :, :columns]


def gradient_of_kernel(
    x: jax.Array, g: jax.Array, size: int, stride: int, padding: int
) -> jax.Array:
    """From x (N, H, W, c_in) and the gradient g (N, H', W', c_out) of the output, the kernel's.

    The result is (size, size, c_in, c_out), summed in float32 at least, of x's type.
    """
    some = images_at_a_time(x.shape, g.shape, size, stride)
    whole, rest = divmod(x.shape[0], some)
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def of(first: Any, count: int) -> jax.Array:
        x_i, g_i = (lax.dynamic_slice_in_dim(array, first, count) for array in (x, g))
        shifted = _all_places if stride == 1 else _row_by_row
        return shifted(x_i, g_i, size, stride, padding, wide)

    sums = of(whole * some, rest) if rest else jnp.zeros((size, size, *_channels(x, g)), wide)
    if whole == 1:
        sums = sums + of(0, some)
    else:
        sums = lax.fori_loop(0, whole, lambda i, sums: sums + of(i * some, some), sums)
    return sums.astype(x.dtype)


def images_at_a_time(x: tuple[int, ...], g: tuple[int, ...], size: int, stride: int) -> int:
    """How many images are shifted at a time, for the shapes of x and g: an even number, or one.

    Without a remainder, which would be compiled apart, if that takes at most half of them.
    """
    pixels = (x[1] if stride == 1 else g[1]) * g[2]
    columns = size * max(x[3], g[3]) if stride == 1 else max(size * x[3], g[3])
    most = min(x[0], max(2, SLICE // (pixels * columns)))
    even = range(most - most % 2, 1, -2)
    whole = (n for n in even if x[0] % n == 0 and 2 * n >= most)
    return next(whole, even[0]) if most > 1 else 1


def leaves_some(x: tuple[int, ...], g: tuple[int, ...], size: int, stride: int) -> bool:
    """Whether some images are left for the end, fewer than are shifted at a time."""
    return x[0] % images_at_a_time(x, g, size, stride) > 0


def working_elements(x: tuple[int, ...], g: tuple[int, ...], size: int, stride: int) -> int:
    """What `gradient_of_kernel` keeps at a time: the images padded and shifted, and three sums."""
    some = images_at_a_time(x, g, size, stride)
    rows = x[1] if stride == 1 else g[1]
    columns = size * (x[3] + g[3]) if stride == 1 else size * x[3]
    return 2 * some * rows * g[2] * columns + 3 * size**2 * x[3] * g[3]


def _all_places(
    x: jax.Array, g: jax.Array, size: int, stride: int, padding: int, wide: Any
) -> jax.Array:
    """With stride 1: row i of x meets row i - a + padding of g."""
    height, width = x.shape[1], g.shape[2]
    x = _padded(x, 0, padding)
    x = jnp.concatenate([x[:, :, b : b + width] for b in range(size)], -1)
    g = _padded(g, size - 1 - padding, 0)
    g = jnp.concatenate([g[:, a : a + height] for a in reversed(range(size))], -1)
    blocks = _product(x, g, wide).reshape(size, -1, size, g.shape[-1] // size)
    return blocks.transpose(2, 0, 1, 3)


def _row_by_row(
    x: jax.Array, g: jax.Array, size: int, stride: int, padding: int, wide: Any
) -> jax.Array:
    """The places of a row of the kernel beside each other."""
    x = _padded(x, padding, padding)
    high, broad = (stride * (n - 1) + 1 for n in g.shape[1:3])

    def row(a: int) -> jax.Array:
        columns = [x[:, a : a + high : stride, b : b + broad : stride] for b in range(size)]
        return _product(_beside(columns), g, wide)

    return jnp.stack([row(a).reshape(size, *_channels(x, g)) for a in range(size)])


def _beside(parts: list[jax.Array]) -> jax.Array:
    """Their channels beside each other: a sum, which takes XLA a third of the time to compile.

    With stride 1 a concatenation runs faster, see `_all_places`.
    """
    c, zero, none = parts[0].shape[-1], jnp.zeros((), parts[0].dtype), (0, 0, 0)
    places = ((i * c, (len(parts) - 1 - i) * c, 0) for i in range(len(parts)))
    padded = (lax.pad(x, zero, (none,) * 3 + (at,)) for x, at in zip(parts, places, strict=True))
    return reduce(jnp.add, padded)


def _padded(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """With so many zeros on both sides; fewer than none cut off what is there."""
    margins = ((0, 0, 0), (rows, rows, 0), (columns, columns, 0), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), margins)


def _product(x: jax.Array, g: jax.Array, wide: Any) -> jax.Array:
    """The sum over pixels, in two halves: two small products keep more cores busy than one."""
    halves = 2 if x.shape[0] % 2 == 0 else 1
    x, g = (array.reshape(halves, -1, array.shape[-1]) for array in (x, g))
    dims = (((1,), (1,)), ((0,), (0,)))
    return jnp.sum(lax.dot_general(x, g, dims, preferred_element_type=wide), 0)


def _channels(x: jax.Array, g: jax.Array) -> tuple[int, int]:
    return x.shape[-1], g.shape[-1]


def gradient_of_images(
    g: jax.Array, kernel: jax.Array, grid: tuple[int, ...], stride: int, padding: int
) -> jax.Array:
    """From g (N, H', W', c_out) and the kernel (k, k, c_in, c_out), the gradient of x on its grid.

    The result is (N, H, W, c_in). Pixel stride i + r of a line of x is met by the kernel's place a
    where g's pixel i + d has stride d = r + padding - a.
    """
    turned = jnp.swapaxes(kernel, 2, 3)
    lines = [_meetings(kernel.shape[0], stride, padding, r) for r in range(stride)]
    coarse = [-(-n // stride) for n in grid]

    def pixels(rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> jax.Array:
        """Those of x whose rows and columns have one remainder each."""
        if not (rows and columns):
            return jnp.zeros((g.shape[0], *coarse, kernel.shape[2]), g.dtype)
        part = turned[np.array([a for _, a in rows])][:, np.array([a for _, a in columns])]
        margins = [
            (-line[0][0], n - 1 + line[-1][0] - (n_g - 1))
            for line, n, n_g in zip((rows, columns), coarse, g.shape[1:3], strict=True)
        ]
        return _conv(g, part, (1, 1), margins)

    parts = [jnp.stack([pixels(rows, columns) for columns in lines], 3) for rows in lines]
    whole = jnp.stack(parts, 2).reshape(g.shape[0], *(stride * n for n in coarse), -1)
    return whole[:, : grid[0], : grid[1]]


def _meetings(size: int, stride: int, padding: int, r: int) -> list[tuple[int, int]]:
    """The pairs (d, a) for remainder r, d ascending by one."""
    places = [a for a in range(size) if (r + padding - a) % stride == 0]
    return [((r + padding - a) // stride, a) for a in reversed(places)]
