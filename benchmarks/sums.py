"""Sums over pixels on CPUs: XLA's own, and ours as products with ones (mgnet_jax.models.pixels).

python benchmarks/sums.py

Two means over (N, H, W), of g and of x g, each image's first, as the gradient of batch norm takes
them (XLA makes one sum of two): the best of several calls in float32, and the GB/s at which x and g
are read so.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models import pixels
from mgnet_jax.training.progress import say, table

SHAPES = (  # images, pixels a side, channels
    *((32, 32, 128), (64, 32, 64), (8, 32, 256), (128, 28, 16), (512, 16, 48), (32, 16, 128)),
)


def milliseconds(function: Any, *arguments: Any) -> float:
    """The best of several calls."""
    compiled, best = jax.jit(function), float("inf")
    jax.block_until_ready(compiled(*arguments))
    for _ in range(10):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        best = min(best, time.perf_counter() - begun)
    return 1e3 * best


def row(n: int, size: int, c: int) -> dict[str, str]:
    """The times for n images of size x size x c."""
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(size=(n, size, size, c)), jnp.float32) for _ in range(2))
    found = {"images": f"{n} of {size}x{size}x{c}"}
    for name, of_images in (("XLA", lambda x: jnp.mean(x, (1, 2))), ("ours", pixels.mean)):

        def both(x: Any, g: Any, of_images: Any = of_images) -> Any:
            return jnp.mean(of_images(g), 0), jnp.mean(of_images(x * g), 0)

        ms = milliseconds(both, x, g)
        found[name] = f"{ms:.1f} ms, {(x.nbytes + g.nbytes) / ms / 1e6:.1f} GB/s"
    return found


def main() -> None:
    """Prints a row for each shape."""
    rows = [row(*shape) for shape in SHAPES]
    say(f"jax {jax.__version__}, {jax.devices()[0].device_kind}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
