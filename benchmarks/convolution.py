"""Our algorithms for 3x3 convolutions against XLA's own, by shape, in float32 on CPUs.

python benchmarks/convolution.py

With stride 1 the convolution (XLA's, by pairs of columns, minimal filtering, the same by our
compiled code) and the gradient of the kernel (XLA's in a layout that is fast for it, products of
matrices, minimal filtering, the same by our compiled code); with stride 2 the convolution, and the
gradients of the images (XLA's, sub-pixel) and of the kernel, each also by our compiled code, which
is direct; and this with stride 1.

GFLOP/s, counted as a direct convolution's. Two figures each: from the time that passed, and from
the processors' time, divided by the cores that there are, which other work disturbs less.
"""

import os
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models import conv_cpu, convolution, native_conv, winograd
from mgnet_jax.training.progress import say, table

SHAPES = (  # images, pixels a side, channels
    *((64, 32, 64), (32, 32, 128), (8, 32, 256), (32, 28, 64), (8, 56, 64), (64, 32, 32)),
    *((64, 16, 64), (32, 16, 128), (8, 16, 256), (64, 8, 64), (8, 8, 256), (128, 28, 16)),
)


def rate(function: Any, flops: float, *arguments: Any) -> str:
    """The best of several calls, as text."""
    compiled, cores = jax.jit(function), os.cpu_count() or 1
    jax.block_until_ready(compiled(*arguments))
    passed = used = float("inf")
    for _ in range(6):
        begun, begun_used = time.perf_counter(), time.process_time()
        for _ in range(3):
            result = compiled(*arguments)
        jax.block_until_ready(result)
        passed = min(passed, (time.perf_counter() - begun) / 3)
        used = min(used, (time.process_time() - begun_used) / 3)
    return f"{flops / passed / 1e9:.0f} ({flops / used * cores / 1e9:.0f})"


def row(n: int, size: int, c: int) -> dict[str, str]:
    """The rates for n images of size x size x c."""
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(size=(n, size, size, c)), jnp.float32) for _ in range(2))
    kernel = jnp.asarray(rng.normal(size=(3, 3, c, c)) / c, jnp.float32)
    one = convolution.Geometry(x.shape, kernel.shape, 1, 1)
    two = one._replace(stride=2)
    coarse = jnp.asarray(rng.normal(size=two.y), jnp.float32)
    flops = 18.0 * x.size * c

    def direct(name: str, geometry: convolution.Geometry) -> Any:
        return partial(native_conv.direct, name, geometry=geometry)

    cases: dict[str, tuple[Any, float, Any, Any]] = {
        "XLA": (partial(convolution._y, geometry=one), flops, x, kernel),
        "pairs": (lambda x, k: conv_cpu.by_pairs(x, k, 1, [(1, 1)] * 2), flops, x, kernel),
        "minimal": (winograd.conv, flops, x, kernel),
        "native": (native_conv.conv, flops, x, kernel),
        "k: XLA": (partial(convolution._k, geometry=one), flops, x, g),
        "k: products": (lambda x, g: conv_cpu.gradient_of_kernel(x, g, 3, 1, 1), flops, x, g),
        "k: minimal": (winograd.gradient_of_kernel, flops, x, g),
        "k: native": (native_conv.gradient_of_kernel, flops, x, g),
        "direct": (direct("y", one), flops, x, kernel),
        "k: direct": (direct("k", one), flops, x, g),
        "2: XLA": (partial(convolution._y, geometry=two), flops / 4, x, kernel),
        "2: direct": (direct("y", two), flops / 4, x, kernel),
        "2x: XLA": (partial(convolution._x, geometry=two), flops / 4, coarse, kernel),
        "2x: sub-pixel": (
            lambda g, k: conv_cpu.gradient_of_images(g, k, (size, size), 2, 1),
            flops / 4,
            coarse,
            kernel,
        ),
        "2x: direct": (direct("x", two), flops / 4, coarse, kernel),
        "2k: products": (
            lambda x, g: conv_cpu.gradient_of_kernel(x, g, 3, 2, 1),
            flops / 4,
            x,
            coarse,
        ),
        "2k: direct": (direct("k", two), flops / 4, x, coarse),
    }
    rates = {name: rate(*case) for name, case in cases.items()}
    return {"images": f"{n} of {size}x{size}x{c}", **rates}


def main() -> None:
    """Prints a row for each shape."""
    rows = [row(*shape) for shape in SHAPES]
    say(f"jax {jax.__version__}, {jax.devices()[0].device_kind}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
