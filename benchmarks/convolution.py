"""Winograd's minimal filtering against XLA's convolution, by shape, in float32 on CPUs.

python benchmarks/convolution.py

GFLOP/s, counted as a direct convolution's. Two figures each: from the time that passed, and from
the processors' time, divided by the cores that there are, which other work disturbs less.
"""

import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models import convolution, winograd
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


def main() -> None:
    """Prints a row for each shape."""
    rows, rng = [], np.random.default_rng(0)
    for n, size, c in SHAPES:
        x, g = (jnp.asarray(rng.normal(size=(n, size, size, c)), jnp.float32) for _ in range(2))
        kernel = jnp.asarray(rng.normal(size=(3, 3, c, c)) / c, jnp.float32)
        flops = 18.0 * n * size * size * c * c
        shapes = convolution.Geometry(x.shape, kernel.shape, 1, 1)
        rows.append(
            {
                "images": f"{n} of {size}x{size}x{c}",
                "XLA": rate(
                    lambda x, k, s=shapes: convolution._y(x, k, geometry=s), flops, x, kernel
                ),
                "minimal": rate(winograd.conv, flops, x, kernel),
                "XLA, kernel": rate(
                    lambda x, g, s=shapes: convolution._k(x, g, geometry=s), flops, x, g
                ),
                "minimal, kernel": rate(winograd.gradient_of_kernel, flops, x, g),
            }
        )
    say(f"jax {jax.__version__}, {jax.devices()[0].device_kind}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
