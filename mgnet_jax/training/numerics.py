"""Whether JAX computes right here: what training is made of, jitted, against NumPy in float64.

Each check gives its error, the largest difference relative to the largest right value, and a bound
that follows from the type and the number of terms. With u the unit roundoff (half the distance of 1
from the next number), a result that went through sums of n1, n2, ... terms one after the other is
within

    u(type) + 6 u(accumulator) (sqrt(n1) + sqrt(n2) + ...)

of the right one: it is rounded to its type once, and sums are in float32 at least. Roundings of
random sign add like sqrt(n); the factor 6 leaves one sum in 3e7 outside (Higham and Mary 2019,
Theorem 2.4). Where factors are small integers, products and sums are exact in whatever order they
are taken, also where a device takes products in TF32 or bfloat16. Winograd's algorithm is not: its
products are larger than the result that is made of them, see `GROWTH`.

The checks but `quick` run on JAX's default device, see `jax.default_device`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgnet_jax.models import Convolution, convolution, norm, winograd

Array = np.ndarray
GROWTH = float(
    np.max(winograd.OUTPUT**2 @ ((winograd.INPUT**2).sum(1) * (winograd.KERNEL**2).sum(1)) / 3)
)
"""How much larger than a result the products are that Winograd's F(4x4, 3x3) makes it of.

The ratio of standard deviations for independent inputs, where it is largest: squares add along one
direction, and the two directions multiply. 3 is the variance of the result in one direction.
"""
QUICK = (Convolution(16, 3, 32, 32), Convolution(16, 3, 64, 128, stride=2))
MINIMAL = Convolution(24, 3, 48, 48)
"""The smallest that takes Winograd's algorithm on CPUs: it takes seconds to compile."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What a check found: its error, which must not be above the bound."""

    name: str
    dtype: str
    error: float
    bound: float

    @property
    def ok(self) -> bool:
        """Whether it is right; NaN is not."""
        return self.error <= self.bound

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}: error {self.error:.2g}, bound {self.bound:.2g}"


def unit_roundoff(dtype: Any) -> float:
    """Half the distance of 1 from the next larger number."""
    return float(jnp.finfo(dtype).eps) / 2


def bound(dtype: Any, *terms: int, growth: float = 1.0) -> float:
    """The largest relative error of a result of sums of so many terms, see above.

    Args:
      dtype: of the result.
      *terms: of each sum.
      growth: how much larger than the result the sums are.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    sums = growth * sum(map(math.sqrt, terms))
    return unit_roundoff(dtype) + 6 * unit_roundoff(wide) * sums


def quick(dtype: str, device: jax.Device) -> list[Check]:
    """The checks that take seconds: two at a time, since most of it is compiling."""
    checks = [
        partial(convolutions, MINIMAL, gradients=False),
        *(operations, products, reductions, cross_entropy, batch_norm),
        *(partial(convolutions, case) for case in QUICK),
    ]

    def found(check: Callable[[str], Iterator[Check]]) -> list[Check]:
        with jax.default_device(device):
            return [*check(dtype)]

    with ThreadPoolExecutor(2) as pool:
        return [check for several in pool.map(found, checks) for check in several]


def run(dtype: str, function: Callable, *arguments: Any) -> Any:
    """The results of a jitted function, on the host."""
    with jax.enable_x64(dtype == "float64"):
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def _check(name: str, got: Any, right: Any, *terms: int, growth: float = 1.0) -> Check:
    got, right = np.asarray(got), np.asarray(right, np.float64)
    if got.shape != right.shape:
        return Check(f"{name}: shape {got.shape}", got.dtype.name, math.inf, 0.0)
    difference = np.abs(got.astype(np.float64) - right)
    error = float(np.max(difference) / np.max(np.abs(right)))
    return Check(name, got.dtype.name, error, bound(got.dtype, *terms, growth=growth))


def _integers(rng: np.random.Generator, *shape: int) -> Array:
    """From -2 to 2: sums of 2^22 of their products are exact in float32."""
    return rng.integers(-2, 3, shape).astype(np.float64)


def _normal(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    return rng.normal(0.5, 1, shape).astype(dtype)


def wide_type(dtype: str) -> str:
    """The type of parameters, statistics and logits."""
    return "float64" if dtype == "float64" else "float32"


def operations(dtype: str) -> Iterator[Check]:
    """Single operations outside jit (JAX's issue 40633)."""
    with jax.enable_x64(dtype == "float64"):
        x = jnp.arange(1, 513).astype(dtype)
        right = np.asarray(x, np.float64)
        yield _check("one operation: addition", x + 1, right + 1)
        yield _check("one operation: square root", jnp.sqrt(x), np.sqrt(right), 1)


def products(dtype: str) -> Iterator[Check]:
    """Matrix products: one and its gradients, and many small ones, reduced (JAX's issue 39103)."""
    rng = np.random.default_rng(0)
    x, matrix, g = _integers(rng, 128, 512), _integers(rng, 512, 1000), _integers(rng, 128, 1000)

    def product(x: Any, matrix: Any, g: Any) -> Any:
        y, transposed = jax.vjp(jnp.dot, x, matrix)
        return y, *transposed(g)

    y, grad_x, grad_matrix = run(dtype, product, *(a.astype(dtype) for a in (x, matrix, g)))
    yield _check("matrix product", y, x @ matrix, 512)
    yield _check("matrix product: gradient of the left", grad_x, g @ matrix.T, 1000)
    yield _check("matrix product: gradient of the right", grad_matrix, x.T @ g, 128)
    for rows in (2**14 + 1, 2**15 + 1):
        x = np.arange(3 * rows).reshape(rows, 3) % 127.0
        eye = np.eye(3)
        got = run(
            dtype,
            lambda rows, matrix: jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows),
            *(a.astype(dtype) for a in (x, eye)),
        )
        yield _check(f"{rows:,} products with a vector, squared, summed", got, (x**2).sum(1), 9)


def reductions(dtype: str) -> Iterator[Check]:
    """Sums, means and maxima of an array whose sizes are no powers of two."""
    x = _integers(np.random.default_rng(1), 1023, 1025).astype(dtype)
    total, means, largest = run(dtype, lambda x: (jnp.sum(x), jnp.mean(x, 0), jnp.max(x, 1)), x)
    right = x.astype(np.float64)
    yield _check("sum", total, right.sum(), right.size)
    yield _check("means", means, right.mean(0), right.shape[0])
    yield _check("maxima", largest, right.max(1))


def cross_entropy(dtype: str) -> Iterator[Check]:
    """The loss of 256 logits of 1,000 classes, and its gradient."""
    wide, smoothing = wide_type(dtype), 0.1
    rng = np.random.default_rng(2)
    logits, labels = 3 * _normal(rng, wide, 256, 1000), rng.integers(0, 1000, 256)

    def loss(logits: Any, labels: Any) -> Any:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, 1000, dtype=wide), smoothing)
        return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    value, gradient = run(wide, jax.value_and_grad(loss), logits, labels)
    right = logits.astype(np.float64)
    targets = (1 - smoothing) * np.eye(1000)[labels] + smoothing / 1000
    exps = np.exp(right - right.max(1, keepdims=True))
    softmax = exps / exps.sum(1, keepdims=True)
    losses = -(targets * np.log(softmax)).sum(1)
    yield _check("cross entropy", value, losses.mean(), 1000, 1000, 256)
    yield _check("cross entropy: gradient", gradient, (softmax - targets) / 256, 1000)


def batch_norm(dtype: str, shape: tuple[int, ...] = (16, 32, 32, 64)) -> Iterator[Check]:
    """Batch norm and ReLU on x (N, H, W, c), with gradients and running statistics."""
    wide = wide_type(dtype)
    rng = np.random.default_rng(3)
    x, g = _normal(rng, dtype, *shape), _normal(rng, dtype, *shape)
    scale, bias = _normal(rng, wide, shape[-1]), _normal(rng, wide, shape[-1])
    n = math.prod(shape[:-1])
    x64, scale64, bias64 = (a.astype(np.float64) for a in (x, scale, bias))
    mean, var = x64.mean((0, 1, 2)), x64.var((0, 1, 2))
    deviation = np.sqrt(var + norm.BN_EPSILON)
    normal = (x64 - mean) / deviation
    before = normal * scale64 + bias64
    g[np.abs(before) < 1e-3] = 0  # beside the kink of ReLU a rounding would decide
    g64 = np.where(before > 0, g.astype(np.float64), 0)
    inner = g64 * scale64
    grad_x = inner - inner.mean((0, 1, 2)) - normal * (inner * normal).mean((0, 1, 2))

    def apply(x: Any, scale: Any, bias: Any) -> Any:
        stats = {"mean": jnp.zeros_like(scale), "var": jnp.ones_like(scale)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        module = norm.BatchNorm(jnp.dtype(wide))
        y, new = module.apply(variables, x, True, relu=True, mutable=["batch_stats"])
        return y, new["batch_stats"]

    def both(x: Any, scale: Any, bias: Any, g: Any) -> Any:
        y, transposed, stats = jax.vjp(apply, x, scale, bias, has_aux=True)
        return y, transposed(g), stats

    y, grads, stats = run(dtype, both, x, scale, bias, g)
    momentum = norm.BN_MOMENTUM
    running = momentum + (1 - momentum) * var * n / (n - 1)
    yield _check("batch norm and ReLU", y, np.maximum(before, 0), n, n)
    yield _check("batch norm: running mean", stats["mean"], (1 - momentum) * mean, n)
    yield _check("batch norm: running variance", stats["var"], running, n, n)
    yield _check("batch norm: gradient of x", grads[0], grad_x / deviation, n, n, n, n)
    yield _check("batch norm: gradient of scale", grads[1], (g64 * normal).sum((0, 1, 2)), n, n, n)
    yield _check("batch norm: gradient of bias", grads[2], g64.sum((0, 1, 2)), n)


def convolutions(
    case: Convolution, dtype: str, gradients: bool = True, algorithm: str = "auto"
) -> Iterator[Check]:
    """A convolution of our networks of two images, and its two gradients if asked for."""
    batch = 2
    rng = np.random.default_rng(4)
    size, stride, padding, groups = case.size, case.stride, case.padding, case.groups
    x = _integers(rng, batch, case.grid, case.grid, case.c_in)
    kernel = _integers(rng, size, size, case.c_in // groups, case.c_out)
    grid = (case.grid + 2 * padding - size) // stride + 1
    g = _integers(rng, batch, grid, grid, case.c_out)

    def conv(x: Any, kernel: Any) -> Any:
        apart: Any = {"padding": padding, "groups": groups, "algorithm": algorithm}
        return convolution.conv(x, kernel, stride, **apart)

    def both(x: Any, kernel: Any, g: Any) -> Any:
        y, transposed = jax.vjp(conv, x, kernel)
        return y, *(transposed(g) if gradients else ())

    got = run(dtype, both, *(a.astype(dtype) for a in (x, kernel, g)))
    right = _convolution(x, kernel, g, stride, padding, groups)
    terms = size**2 * case.c_in // groups, size**2 * case.c_out // groups, batch * grid**2
    what = "", ": gradient of x", ": gradient of the kernel"
    growth = GROWTH if (size, stride) == (3, 1) else 1.0
    for part, a, b, n in zip(what, got, right, terms, strict=False):
        # Winograd's algorithm sums over channels, and for the kernel over tiles of 4x4
        yield _check(f"{case}{part}", a, b, n // 9 if growth > 1 else n, growth=growth)


def _convolution(
    x: Array, kernel: Array, g: Array, stride: int, padding: int, groups: int
) -> tuple[Array, Array, Array]:
    """The convolution and its gradients from g, as one matrix product for each tap."""
    if groups > 1:
        split = [np.split(a, groups, -1) for a in (x, kernel, g)]
        parts = [_convolution(a, b, c, stride, padding, 1) for a, b, c in zip(*split, strict=True)]
        y, grad_x, grad_kernel = (np.concatenate(same, -1) for same in zip(*parts, strict=True))
        return y, grad_x, grad_kernel
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y, grad_x, grad_kernel = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(kernel)
    ends = [stride * (n - 1) + 1 for n in g.shape[1:3]]
    for i, j in np.ndindex(*kernel.shape[:2]):
        rows, columns = slice(i, i + ends[0], stride), slice(j, j + ends[1], stride)
        seen = padded[:, rows, columns]
        y += seen @ kernel[i, j]
        grad_x[:, rows, columns] += g @ kernel[i, j].T
        grad_kernel[i, j] = np.tensordot(seen, g, ([0, 1, 2], [0, 1, 2]))
    inside = slice(padding, x.shape[1] + padding)
    return y, grad_x[:, inside, inside], grad_kernel
