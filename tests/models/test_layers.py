"""Initialisers, stems and pools against their definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.models import layers


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("stacked", [False, True])
def test_initialisers_have_their_variance(stacked: bool) -> None:
    shape, fan_in = (3, 3, 64, 48), 9 * 64
    if stacked:
        shape = (5, *shape)
    kaiming = layers.kernel_init("kaiming", stacked)(jax.random.key(0), shape)
    assert float(kaiming.var()) == pytest.approx(2 / fan_in, rel=0.02)
    assert float(jnp.abs(kaiming).max()) > 3.5 * float(kaiming.std())  # not truncated
    uniform = layers.kernel_init("pytorch", stacked)(jax.random.key(0), shape)
    assert float(uniform.var()) == pytest.approx(1 / (3 * fan_in), rel=0.02)
    assert float(jnp.abs(uniform).max()) == pytest.approx(fan_in**-0.5, rel=1e-2)


def test_pytorchs_head_has_a_uniform_bias() -> None:
    head = layers.Head(2000, layers.Compute("pytorch")).init(
        jax.random.key(0), jnp.zeros((1, 2, 2, 16))
    )
    bias = head["params"]["linear"]["bias"]
    assert float(jnp.abs(bias).max()) == pytest.approx(0.25, rel=0.01)
    assert float(bias.var()) == pytest.approx(0.25**2 / 3, rel=0.05)


def test_stems_halve_as_they_should() -> None:
    images = jnp.zeros((1, 33, 64, 3))
    cifar = layers.Stem("cifar", 4).init_with_output(jax.random.key(0), images, False)[0]
    imagenet = layers.Stem("imagenet", 4).init_with_output(jax.random.key(0), images, False)[0]
    chex.assert_shape(cifar, (1, 33, 64, 4))
    chex.assert_shape(imagenet, (1, 9, 16, 4))


def test_a_plain_stem_is_a_convolution_alone() -> None:
    images = jnp.asarray(normal(0, 1, 6, 5, 3))
    variables = layers.Stem("cifar", 4, plain=True).init(jax.random.key(0), images, False)
    assert set(variables["params"]["conv"]) == {"kernel"}
    assert set(variables) == {"params"}


@pytest.mark.parametrize(("height", "width", "size"), [(7, 5, 3), (6, 6, 3), (2, 3, 6), (4, 4, 4)])
def test_adaptive_average_pool_follows_its_definition(height: int, width: int, size: int) -> None:
    x = normal(0, 2, height, width, 3)
    pooled = layers.adaptive_average_pool(jnp.asarray(x), size)
    for i in range(size):
        for j in range(size):
            rows = slice(i * height // size, -(-(i + 1) * height // size))
            columns = slice(j * width // size, -(-(j + 1) * width // size))
            expected = x[:, rows, columns].mean((1, 2))
            chex.assert_trees_all_close(pooled[:, i, j], expected, atol=1e-5)


def test_a_grid_smaller_than_the_window_is_pooled_whole() -> None:
    x = jnp.asarray(normal(0, 2, 1, 3, 2))
    chex.assert_trees_all_equal(
        layers.max_pool(x, 2, 2), jnp.max(x[:, :, :2], (1, 2), keepdims=True)
    )
    chex.assert_trees_all_equal(layers.max_pool(x, 3, 2), jnp.max(x, (1, 2), keepdims=True))
