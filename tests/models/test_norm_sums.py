"""Batch norm's sums by code that the machine's compiler makes: what they are, and derivatives."""

import re
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import needs_compiler

from mgnet_jax.models import norm_sums
from mgnet_jax.models.norm import moments, normalise

pytestmark = needs_compiler
SHAPES = [(3, 5, 7, 16), (2, 8, 8, 48), (1, 1, 2, 32), (4, 3, 9, 80)]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def arrays(shape: tuple[int, ...]) -> list[np.ndarray]:
    """g, x and four numbers a channel."""
    return [normal(0, *shape), normal(1, *shape), *(normal(i, shape[3]) for i in range(2, 6))]


def near(found: Any, exact: Any, tolerance: float) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def transposed(g: Any, *rest: Any, relu: bool) -> Any:
    def affine(p: Any, q: Any) -> Any:
        return norm_sums.affine(p, q, *rest, relu=relu)

    like = jnp.zeros((g.shape[0], g.shape[3]), g.dtype)
    return jax.linear_transpose(affine, like, like)(g)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [True, False])
def test_they_are_the_sums(shape: tuple[int, ...], relu: bool) -> None:
    given = arrays(shape)
    sums = partial(transposed, relu=relu)
    text = jax.jit(sums).lower(*given).as_text()
    assert len(re.findall("custom_call @mgnet_norm_sums", text)) == 1
    g, x, mean, inverse, scale, bias = (each.astype(np.float64) for each in given)
    z = (x - mean) * inverse
    through = np.where(z * scale + bias > 0, g, 0) if relu else g
    near(jax.jit(sums)(*given), ((z * through).sum((1, 2)), through.sum((1, 2))), 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_of_one_reading(shape: tuple[int, ...]) -> None:
    x = 100 + normal(0, *shape)  # a mean that is large beside the deviation
    found = jax.jit(partial(moments, native=True))
    assert "mgnet_norm_squares" in found.lower(x).as_text()
    wide = x.astype(np.float64)
    near(found(x), (wide.mean((0, 1, 2)), wide.var((0, 1, 2))), 1e-5)


@pytest.mark.parametrize(
    ("dtype", "wide", "channels"),
    [
        ("float32", "float32", 24),
        ("bfloat16", "float32", 16),
        ("float32", "float64", 16),
        ("float64", "float64", 16),
    ],
)
def test_what_it_leaves_to_others(dtype: str, wide: str, channels: int) -> None:
    with jax.enable_x64(True):
        x, scale = jnp.ones((2, 4, 4, channels), dtype), jnp.ones(channels, wide)

        def gradient(x: Any) -> Any:
            return jax.grad(lambda x: jnp.sum(normalise(x, scale, scale, True, True, True)[0]))(x)

        lowered = jax.jit(gradient).lower(x)
        assert "mgnet_norm_s" not in lowered.as_text()
        assert lowered.compile()(x).dtype == dtype


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_batch_norm_and_all_its_derivatives_are_the_same(relu: bool, alone: bool) -> None:
    shape = (3, 5, 7, 16)
    x, t, weights = normal(0, *shape), normal(1, *shape), normal(2, *shape)
    # far from ReLU's corner, where its derivative jumps
    scale, bias = np.ones(16, np.float32), np.where(np.arange(16) % 2, 8, -8).astype(np.float32)

    def loss(native: bool, *arguments: Any) -> Any:
        out, _, _ = normalise(*arguments, relu, alone, native)
        return jnp.sum(jnp.sin(out + weights))

    def derivatives(native: bool) -> Any:
        gradient = jax.grad(partial(loss, native), (0, 1, 2))

        def along(function: Any) -> Any:
            tangents = t, 0.1 * scale, 0.2 * scale
            return jax.jvp(function, (x, scale, bias), tangents)[1]

        first = gradient(x, scale, bias)
        return first, along(partial(loss, native)), along(gradient)

    found = jax.jit(partial(derivatives, True))
    assert "mgnet_norm_sums" in found.lower().as_text()
    expected = jax.jit(partial(derivatives, False))()
    chex.assert_trees_all_close(found(), expected, rtol=2e-4, atol=2e-4)


def test_several_at_once() -> None:
    shape = (2, 3, 5, 7, 16)
    scale = np.ones(16, np.float32)

    def gradient(x: Any) -> Any:
        return jax.grad(lambda x: jnp.sum(normalise(x, scale, scale, True, True, True)[0] ** 2))(x)

    x = normal(0, *shape)
    one_by_one = [jax.jit(gradient)(each) for each in x]
    found = jax.jit(jax.vmap(gradient))(x)
    chex.assert_trees_all_close(found, jnp.stack(one_by_one), rtol=1e-4, atol=1e-4)
