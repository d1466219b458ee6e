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
    for kind, grid in {"cifar": (33, 64), "half": (16, 32), "imagenet": (9, 16)}.items():
        f, _ = layers.Stem(kind, 4).init_with_output(jax.random.key(0), images, False)
        chex.assert_shape(f, (1, *grid, 4))


@pytest.mark.parametrize(("c_in", "count"), [(3, 48), (3, 60), (3, 20), (1, 16)])
def test_cosines_are_orthogonal_with_the_lowest_frequencies_first(c_in: int, count: int) -> None:
    rest, key, shape = layers.kernel_init("kaiming"), jax.random.key(0), (4, 4, c_in, count)
    kernel = np.asarray(layers.cosine_init(rest)(key, shape, jnp.float32))
    known = min(count, 16 * c_in)
    cosines = kernel.reshape(-1, count)[:, :known]
    np.testing.assert_allclose(cosines.T @ cosines, layers.NORM**2 * np.eye(known), atol=1e-4)
    np.testing.assert_allclose(cosines[:, 1:].sum(0), 0, atol=1e-5)
    drawn = np.asarray(rest(key, shape, jnp.float32))
    np.testing.assert_array_equal(kernel[..., known:], drawn[..., known:])
    if c_in == 1:
        signs = np.sign(kernel[:, :, 0])
        changes = [(np.diff(signs, axis=a) != 0).sum(a).max(0) for a in (0, 1)]
        frequencies = list(changes[0] + changes[1])
        assert frequencies == sorted(frequencies) and frequencies[-1] == 6


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
