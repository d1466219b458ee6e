"""What the compiler for the default device keeps in memory, found out with tiny programs."""

from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp


class Habits:
    """Answers, each found out when it is asked for first."""

    _image = jax.ShapeDtypeStruct((8, 16, 16, 64), jnp.float32)
    _channel = jax.ShapeDtypeStruct((64,), jnp.float32)

    def _buffers(self, function: Any, *arguments: Any) -> float:
        """Working memory of a compiled function, in images of float32."""
        needed: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
        return needed.temp_size_in_bytes / (4 * self._image.size) if needed else 0

    @cached_property
    def sums(self) -> bool:
        """Whether sums read memory where somebody else reads the same value, as for a mean."""

        def mean(x: Any, other: Any, c: Any) -> Any:
            y = jnp.maximum(x * c, 0)
            return jnp.sum(y, (0, 1, 2)), jnp.sum(y * other, (0, 1, 2))

        return self._buffers(mean, self._image, self._image, self._channel) >= 1

    @cached_property
    def products(self) -> bool:
        """Whether sums of products do so with their factors, as for a variance."""

        def variance(x: Any, other: Any, c: Any) -> Any:
            y = x - c
            return jnp.sum(jnp.square(y), (0, 1, 2)), jnp.sum(y * other, (0, 1, 2))

        return self._buffers(variance, self._image, self._image, self._channel) >= 1

    @cached_property
    def widens(self) -> bool:
        """Whether bfloat16 is computed in float32: convolutions read and write copies so wide.

        What is rounded to bfloat16 between them is then in memory too.
        """
        half = jax.ShapeDtypeStruct(self._image.shape, jnp.bfloat16)
        kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.bfloat16)

        def convolve(x: Any, kernel: Any) -> Any:
            dims = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dims)

        return self._buffers(convolve, half, kernel) >= 1

    @cached_property
    def expands_pools(self) -> bool:
        """Whether the gradient of max pooling has arrays of indices, one for each axis."""

        def pooled(x: Any) -> Any:
            return jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
            ).sum()

        return self._buffers(jax.grad(pooled), self._image) >= 4


habits = cache(Habits)
