"""The shapes of a convolution, and what follows from them."""

import math
from typing import NamedTuple

SMALL = 2**23
"""Multiply-adds below which CPUs take XLA's convolutions: they are done, and compiled, at once."""


class Geometry(NamedTuple):
    """The shapes of a convolution.

    Attributes:
      x: of the images, (N, H, W, c_in).
      kernel: (k, k, c_in, c_out).
      stride, padding: in pixels, the same on all sides.
      algorithm: what CPUs may compute it by, see `convolution.conv`.
    """

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int
    padding: int
    algorithm: str = "auto"

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
