"""3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3), for CPUs.

Winograd (1980), "Arithmetic complexity of computations"; for convolutional networks Lavin and Gray
(2016), "Fast algorithms for convolutional neural networks". A tile of 4x4 outputs takes 36
multiplications a pair of channels instead of 144: at each of the 6x6 points of the transformed
tiles it is a product of matrices. Some images at a time, so that their tiles stay in the cache.

Arrays are NHWC, kernels HWIO, padding 1 and stride 1. In float32 results differ from a direct
convolution's by about 1e-5 of the largest.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 4  # outputs a side
POINTS = TILE + 2  # of interpolation: 0, 1, -1, 2, -2 and infinity
SLICE = 2**19
"""Elements of the images that are transformed at a time: their tiles take 2.25 times as many."""

# Lavin and Gray's matrices: of tiles of the input, of the kernel, of the products
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)

Grid = Sequence[Sequence[jax.Array]]


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x (N, H, W, c_in) with a kernel (3, 3, c_in, c_out)."""
    points = jnp.einsum("pi,qj,ijcd->pqcd", KERNEL, KERNEL, kernel).astype(x.dtype)
    points = points.reshape(POINTS**2, *kernel.shape[2:])
    n, height, width, _ = x.shape
    c_out = kernel.shape[3]
    some = _some(x.shape, c_out)
    x = x.reshape(some, n // some, *x.shape[1:])

    def part(i: jax.Array | int, out: jax.Array) -> jax.Array:
        y = _conv(lax.dynamic_index_in_dim(x, i, 1, keepdims=False), points)
        return lax.dynamic_update_index_in_dim(out, y, i, 1)

    out = jnp.zeros((some, n // some, height, width, c_out), x.dtype)
    return _loop(n // some, part, out).reshape(n, height, width, c_out)


def gradient_of_kernel(x: jax.Array, g: jax.Array) -> jax.Array:
    """From x (N, H, W, c_in) and the gradient g (N, H, W, c_out) of the output, the kernel's."""
    n, some = x.shape[0], _some(x.shape, g.shape[3])
    x, g = (array.reshape(some, n // some, *array.shape[1:]) for array in (x, g))

    def part(i: jax.Array | int, sums: jax.Array) -> jax.Array:
        x_i, g_i = (lax.dynamic_index_in_dim(array, i, 1, keepdims=False) for array in (x, g))
        return sums + _products(x_i, g_i)

    sums = _loop(n // some, part, jnp.zeros((POINTS**2, x.shape[-1], g.shape[-1]), x.dtype))
    sums = sums.reshape(POINTS, POINTS, *sums.shape[1:])
    return jnp.einsum("pi,qj,pqcd->ijcd", KERNEL, KERNEL, sums).astype(x.dtype)


def _some(shape: tuple[int, ...], c_out: int) -> int:
    """How many images are transformed at a time: a divisor of their number."""
    n, height, width, c_in = shape
    most = max(1, SLICE // (height * width * max(c_in, c_out)))
    return max(k for k in range(1, min(n, most) + 1) if n % k == 0)


def working_elements(x: tuple[int, ...], y: tuple[int, ...]) -> int:
    """What either function keeps at a time: tiles of some images, their products, the kernel's."""
    tiles = -(-x[1] // TILE) * -(-x[2] // TILE) * _some(x, y[3])
    return POINTS**2 * (2 * tiles * (x[3] + y[3]) + 2 * x[3] * y[3])


def _loop(count: int, part: Callable[..., jax.Array], begin: jax.Array) -> jax.Array:
    return part(0, begin) if count == 1 else lax.fori_loop(0, count, part, begin)


def _conv(x: jax.Array, points: jax.Array) -> jax.Array:
    """The same of some images, with the kernel's points (36, c_in, c_out)."""
    n, height, width, _ = x.shape
    tiles = _transform(INPUT, _tiles(x))
    products = lax.dot_general(tiles, points, (((2,), (1,)), ((0,), (0,))))
    rows = _half(OUTPUT, _as_grid(products, POINTS, POINTS))
    # else each output would be computed from all products: XLA fuses what it can
    whole = lax.optimization_barrier(jnp.stack([entry for row in rows for entry in row]))
    columns = _half(OUTPUT, _turned(_as_grid(whole, TILE, POINTS)))
    entries = jnp.stack([columns[q][p] for p in range(TILE) for q in range(TILE)])
    high, wide = -(-height // TILE), -(-width // TILE)
    out = lax.optimization_barrier(entries).reshape(TILE, TILE, n, high, wide, -1)
    out = out.transpose(2, 3, 0, 4, 1, 5).reshape(n, high * TILE, wide * TILE, -1)
    return out[:, :height, :width]


def _products(x: jax.Array, g: jax.Array) -> jax.Array:
    """The products (36, c_in, c_out) of the points of x and of g, summed over tiles."""
    height, width = g.shape[1:3]
    high, wide = -(-height // TILE), -(-width // TILE)
    margins = ((0, 0), (0, high * TILE - height), (0, wide * TILE - width), (0, 0))
    padded = jnp.pad(g, margins)
    parts = [[padded[:, p::TILE, q::TILE] for q in range(TILE)] for p in range(TILE)]
    tiles = _transform(INPUT, _tiles(x)), _transform(OUTPUT.T, parts)
    return lax.dot_general(*tiles, (((1,), (1,)), ((0,), (0,))))


def _tiles(x: jax.Array) -> Grid:
    """The pixels of all tiles of 6x6, which overlap by 2: 6x6 arrays (N, tiles, tiles, c)."""
    _, height, width, _ = x.shape
    high, wide = -(-height // TILE), -(-width // TILE)
    margins = [(1, n * TILE - size + 1) for n, size in ((high, height), (wide, width))]
    padded = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    return [
        [
            padded[:, i : i + TILE * (high - 1) + 1 : TILE, j : j + TILE * (wide - 1) + 1 : TILE]
            for j in range(POINTS)
        ]
        for i in range(POINTS)
    ]


def _transform(matrix: np.ndarray, tiles: Grid) -> jax.Array:
    """M t M^T of every tile t: (36, all tiles, c)."""
    rows = _half(matrix, tiles)
    points = _turned(_half(matrix, _turned(rows)))
    channels = points[0][0].shape[-1]
    return jnp.stack([point.reshape(-1, channels) for row in points for point in row])


def _half(matrix: np.ndarray, grid: Grid) -> Grid:
    """M t, a matrix times a grid of arrays."""
    columns = range(len(grid[0]))
    return [[_combination(row, [line[j] for line in grid]) for j in columns] for row in matrix]


def _turned(grid: Grid) -> Grid:
    return [list(column) for column in zip(*grid, strict=True)]


def _as_grid(arrays: jax.Array, rows: int, columns: int) -> Grid:
    return [[arrays[i * columns + j] for j in range(columns)] for i in range(rows)]


def _combination(factors: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """A sum of arrays with factors, of which most are 0, 1 or -1."""
    terms = [
        array if factor == 1 else float(factor) * array
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return sum(terms[1:], start=terms[0])
