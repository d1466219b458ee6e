"""Milliseconds of a 3x3 convolution with its gradients on the CPU, outside a loop and inside one.

    python benchmarks/conv_in_loop.py

JAX's own gradients against those of mgnet_jax.models.convolution; medians of 5.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mgnet_jax.models.convolution import conv

SHAPES = [(128, 8, 32, 1), (128, 28, 16, 1), (128, 28, 16, 2), (128, 14, 32, 1)]
TURNS = 10


def jaxs_own(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The convolution, differentiated by JAX."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def milliseconds(function: Callable[..., Any], *arguments: jax.Array) -> float:
    """Median time of a compiled function."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def main() -> None:
    """Prints a line for each shape and implementation."""
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    for n, size, channels, stride in SHAPES:
        x = jax.random.normal(jax.random.key(0), (n, size, size, channels))
        kernel = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
        g = jnp.ones((n, size // stride, size // stride, channels))
        for name, function in (("JAX's own", jaxs_own), ("ours", conv)):

            def once(
                x: jax.Array, kernel: jax.Array, g: jax.Array, f: Any = function, s: int = stride
            ) -> Any:
                out, vjp = jax.vjp(lambda x, kernel: f(x, kernel, s), x, kernel)
                return (out, *vjp(g))

            def loop(x: jax.Array, kernel: jax.Array, g: jax.Array, once: Any = once) -> Any:
                def turn(_: int, carry: Any) -> Any:
                    return once(x + 0 * carry[0][0, 0, 0, 0], kernel, g)

                return lax.fori_loop(0, TURNS, turn, (g, x, kernel))

            outside = milliseconds(once, x, kernel, g)
            inside = milliseconds(loop, x, kernel, g) / TURNS
            print(
                f"{n}x{size}x{size}x{channels} stride {stride}  {name:10} outside {outside:7.2f} ms"
                f"  in a loop {inside:7.2f} ms"
            )


if __name__ == "__main__":
    main()
