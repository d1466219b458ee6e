"""What is told of a program's memory before it is compiled: rule by rule, on programs by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mgnet_jax
from mgnet_jax.models import step_memory
from mgnet_jax.models.habits import habits
from mgnet_jax.models.memory import peak
from mgnet_jax.models.program import Program, Value

X = jax.ShapeDtypeStruct((8, 16, 16, 64), jnp.float32)
K = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
LARGE, KERNEL = 4 * X.size, 4 * K.size


def conv(x: Any, kernel: Any) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def needs(function: Callable[..., Any], *arguments: Any, replaced: int = -1) -> int:
    """Bytes besides the arguments; `replaced` of these are what the first results replace."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    program, given = Program(habits().expands_pools), [Value(v.aval) for v in jaxpr.invars]
    program.run(jaxpr, given)
    return peak(program, 0, given[:replaced] if replaced >= 0 else None).total


def test_elementwise_work_alone_needs_no_memory() -> None:
    assert needs(lambda x: jnp.sum(jnp.exp(-x) * 2 + x), X) == 4
    assert needs(lambda x: jnp.exp(-x) * 2, X) == LARGE


def test_convolutions_read_and_write_memory() -> None:
    assert needs(lambda x, k: jnp.sum(conv(jnp.exp(x), k)), X, K) == 2 * LARGE
    assert needs(lambda x, k: jnp.sum(conv(jnp.exp(conv(x, k)), k)), X, K) == 2 * LARGE


def test_what_two_arrays_make_is_in_memory_for_all_that_read_it() -> None:
    def two(x: Any, y: Any, k: Any) -> Any:
        made = x * y
        return conv(conv(made, k), k) * made

    def one(x: Any, k: Any) -> Any:
        made = jnp.exp(x)
        return conv(conv(made, k), k) * made  # computed again for the product

    assert needs(two, X, X, K) == 3 * LARGE
    assert needs(one, X, K) == 2 * LARGE


def test_the_work_of_an_unrolled_loop_is_straight_line_code() -> None:
    def run(unroll: int, reader: Callable[[Any], Any]) -> int:
        def stack(x: Any, k: Any) -> Any:
            def turn(x: Any, _: None) -> Any:
                x = conv(x, k)
                return x, x

            return reader(jax.lax.scan(turn, x, None, 3, unroll=unroll)[1])

        return needs(stack, X, K)

    assert run(3, lambda stack: jnp.sum(stack[2])) == 3 * LARGE + 3 * LARGE  # made one to be sliced
    assert run(1, lambda stack: jnp.sum(stack[2])) >= 4 * LARGE


def test_a_loops_kernel_is_transposed_once_before_it() -> None:
    def loop(x: Any, k: Any) -> Any:
        def turn(x: Any, _: None) -> Any:
            return conv(x, jnp.swapaxes(k, 2, 3)), None

        return jax.lax.scan(turn, x, None, 3)[0]

    assert needs(loop, X, K) == KERNEL + 2 * LARGE


def test_a_parameter_that_may_be_read_after_its_replacement_is_copied() -> None:
    def late(k: Any, x: Any) -> Any:
        return 0.9 * k, conv(x, k)

    def early(k: Any, x: Any) -> Any:
        out = conv(x, k)
        return k * jnp.sum(out), out

    assert needs(late, K, X, replaced=1) == needs(early, K, X, replaced=1) + KERNEL - 4


def test_pooling_has_an_index_for_each_axis_where_the_compiler_makes_them() -> None:
    def pooled(x: Any) -> Any:
        return jnp.sum(
            jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        )

    needed = needs(jax.grad(pooled), X)
    assert (needed > 4 * LARGE) == habits().expands_pools


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_images_need_more_and_recomputing_keeps_less(dtype: str) -> None:
    def memory(batch: int, parts: int = 1, **options: Any) -> Any:
        model = mgnet_jax.create("MgNet[4,4]-[16]-B^l", 10, dtype=dtype, **options)
        return step_memory(model, (32, 32, 3), batch, parts)

    small, large, again = memory(32), memory(64), memory(32, remat="steps")
    assert 1.9 < large.activations / small.activations < 2.1
    assert again.activations < small.activations / 2
    assert again.total < small.total
    assert memory(32, 2).total > small.total


def test_a_network_without_convolutions_needs_little() -> None:
    model = mgnet_jax.create("MgNet[1]-[2]-B^l", 3)
    assert step_memory(model, (4, 4, 1), 2).total < 10_000
