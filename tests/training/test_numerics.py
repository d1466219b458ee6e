"""The checks of JAX's numerics: right as it is, and wrong where something is broken a little."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.models import Convolution, convolution, convolutions, create, norm
from mgnet_jax.training import numerics
from mgnet_jax.training.numerics import Check, bound, unit_roundoff
from mgnet_jax.training.whole_step import train_steps

PLAIN, STRIDED = Convolution(8, 3, 8, 16), Convolution(8, 3, 8, 16, stride=2)
SINGLE = (
    numerics.operations,
    numerics.products,
    numerics.reductions,
    numerics.cross_entropy,
    partial(numerics.batch_norm, shape=(8, 8, 8, 16)),
    partial(numerics.convolutions, PLAIN),
    partial(numerics.convolutions, STRIDED),
    partial(numerics.convolutions, Convolution(9, 5, 8, 12, stride=2, padding=2, groups=2)),
)
Conv = Callable[..., Any]
conv = convolution.conv


def wrong(checks: Iterator[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("check", SINGLE)
def test_what_is_installed_computes_right(
    check: Callable[[str], Iterator[Check]], dtype: str
) -> None:
    found = [*check(dtype)]
    assert found and wrong(iter(found)) == []
    assert {c.dtype for c in found} <= {dtype, "float32"}
    assert all(c.error >= 0 and unit_roundoff(c.dtype) <= c.bound < 0.01 for c in found)


def test_the_quick_checks_have_every_kind_and_are_right() -> None:
    found = numerics.quick("float32", jax.local_devices()[1])
    assert [str(check) for check in found if not check.ok] == []
    kinds = ("one operation", "matrix product", "squared, summed", "sum", "cross entropy")
    kinds += ("batch norm", "stride 2", "gradient of x", "gradient of the kernel")
    for kind in kinds:
        assert any(kind in check.name for check in found), kind


def test_a_bound_is_the_rounding_of_the_result_and_of_the_sums() -> None:
    assert bound("float32") == 2.0**-24
    assert bound("float64", 100) == 61 * 2.0**-53
    assert bound("bfloat16", 100) == 2.0**-8 + 60 * 2.0**-24  # summed in float32
    assert bound("float32", 4, 9, growth=2) == (1 + 6 * 10) * 2.0**-24


def test_nan_is_wrong() -> None:
    assert not Check("", "float32", math.nan, 1.0).ok
    assert not Check("", "float32", math.inf, 1.0).ok
    assert Check("", "float32", 0.0, 0.0).ok


def broken_gradients(change_x: Callable, change_kernel: Callable) -> Conv:
    """The convolution with gradients that are changed."""

    def changed(x: jax.Array, kernel: jax.Array, stride: int = 1, **options: Any) -> jax.Array:
        @jax.custom_vjp
        def own(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return conv(x, kernel, stride, **options)

        def forward(x: jax.Array, kernel: jax.Array) -> Any:
            return jax.vjp(lambda x, k: conv(x, k, stride, **options), x, kernel)

        def backward(transposed: Any, g: jax.Array) -> Any:
            grad_x, grad_kernel = transposed(g)
            return change_x(grad_x), change_kernel(grad_kernel)

        own.defvjp(forward, backward)
        return own(x, kernel)

    return changed


def shifted(x: jax.Array, kernel: jax.Array, stride: int = 1, **options: Any) -> jax.Array:
    """The convolution, with stride 2 one pixel off, as with XLA's padding "SAME"."""
    return conv(jnp.roll(x, -1, (1, 2)) if stride == 2 else x, kernel, stride, **options)


def same(x: jax.Array) -> jax.Array:
    return x


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (
            broken_gradients(same, lambda k: k.at[1, 0, 3, 5].add(1)),
            {(PLAIN, ": gradient of the kernel"), (STRIDED, ": gradient of the kernel")},
        ),
        (
            broken_gradients(lambda x: x * (1 + 1e-3), same),
            {(PLAIN, ": gradient of x"), (STRIDED, ": gradient of x")},
        ),
        (
            shifted,
            {(STRIDED, ""), (STRIDED, ": gradient of x"), (STRIDED, ": gradient of the kernel")},
        ),
        (lambda x, kernel, *a, **o: conv(x, kernel, *a, **o).at[1, 2, 3, 4].add(1), None),
    ],
    ids=["one element of a kernel's gradient", "1e-3 of x's", "one pixel", "one element"],
)
def test_a_broken_convolution_is_found(
    broken: Conv, named: set[tuple[Convolution, str]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "conv", broken)
    found = {
        name for case in (PLAIN, STRIDED) for name in wrong(numerics.convolutions(case, "float32"))
    }
    expected = {(PLAIN, ""), (STRIDED, "")} if named is None else named
    assert found == {f"{case}{part}" for case, part in expected}


def test_a_broken_gradient_of_batch_norm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(norm.BatchNorm):
        def __call__(self, x: jax.Array, train: bool, relu: bool = False) -> jax.Array:
            return super().__call__(x, train, relu) + 1e-3 * (x - jax.lax.stop_gradient(x))

    monkeypatch.setattr(norm, "BatchNorm", Broken)
    found = wrong(numerics.batch_norm("float32", (8, 8, 8, 16)))
    assert found == ["batch norm: gradient of x"]


def test_a_sum_without_its_last_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jnp.sum

    def miscompiled(x: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        return whole(x.at[..., -1].set(0), *arguments, **options)

    monkeypatch.setattr(jnp, "sum", miscompiled)
    assert wrong(numerics.reductions("float32")) == ["sum"]
    assert len(wrong(numerics.products("float32"))) == 2


@pytest.mark.parametrize("rows", [16_385, 32_769])
def test_one_wrong_row_is_found(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JAX's issue 39103: the last row is computed from another one."""
    own = jax.jit

    def miscompiled(function: Callable) -> Callable:
        def last(*arguments: Any) -> Any:
            y = own(function)(*arguments)
            one = isinstance(y, jax.Array) and y.shape == (rows,)
            return y.at[-1].set(y[-129]) if one else y

        return last

    monkeypatch.setattr(jax, "jit", miscompiled)
    assert wrong(numerics.products("float32")) == [
        f"{rows:,} products with a vector, squared, summed"
    ]


def test_an_operation_outside_jit_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jnp, "sqrt", lambda x: x * 0)  # as JAX's issue 40633
    assert wrong(numerics.operations("float32")) == ["one operation: square root"]


def test_the_reference_is_a_convolution() -> None:
    """Of one tap and of one pixel, by hand."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(1, 4, 4, 2)), rng.normal(size=(1, 2, 2, 3))
    kernel = np.zeros((3, 3, 2, 3))
    kernel[1, 2] = rng.normal(size=(2, 3))
    y, grad_x, grad_kernel = numerics._convolution(x, kernel, g, 2, 1, 1)
    # row 2 i + 1 - 1, column 2 j + 2 - 1
    np.testing.assert_allclose(y, x[:, 0::2, 1::2] @ kernel[1, 2])
    np.testing.assert_allclose(grad_x[:, 0::2, 1::2], g @ kernel[1, 2].T)
    assert np.count_nonzero(grad_x) == 4 * 2
    np.testing.assert_allclose(grad_kernel[0, 0], x[0, 1, 1, :, None] * g[0, 1, 1])


@pytest.mark.slow
def test_a_training_step_is_right_and_a_broken_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = jax.local_devices()[0]
    assert wrong(train_steps(["float32"], device)) == []
    doubled = broken_gradients(same, lambda k: k.at[1, 1].multiply(2))
    monkeypatch.setattr(
        convolution,
        "conv",
        lambda x, kernel, stride=1, *, algorithm="auto", **options: (
            conv if algorithm == "xla" else doubled
        )(x, kernel, stride, algorithm=algorithm, **options),
    )
    assert wrong(train_steps(["float32"], device)) == ["a training step: parameters, momentum"]


def test_the_shapes_of_a_networks_convolutions() -> None:
    model = create("MgNet[2,7]-[8,16]-B^l", 10)
    assert convolutions(model, (28, 28, 1)) == [
        Convolution(28, 3, 1, 8),
        Convolution(28, 3, 8, 8),
        Convolution(28, 3, 8, 16, stride=2),
        Convolution(14, 3, 16, 16),
    ]
    assert str(Convolution(28, 7, 8, 16, 2, 3, 4)) == (
        "convolution 7x7, stride 2, 4 groups, 8 to 16 channels on 28x28"
    )
