"""Batch norm, initialisers, stems and pools against their definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.models import layers


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_batch_norm_follows_its_definition() -> None:
    """Normalises with the biased variance and stores the unbiased one, momentum 0.9."""
    x = 3 + 2 * normal(0, 4, 3, 2, 5)
    scale, bias = normal(1, 5), normal(2, 5)
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=True)
    chex.assert_trees_all_equal(
        variables["batch_stats"], {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    )
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": variables["batch_stats"]}
    out, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, biased = x.mean((0, 1, 2)), x.var((0, 1, 2))
    unbiased = x.var((0, 1, 2), ddof=1)
    chex.assert_trees_all_close(out, scale * (x - mean) / np.sqrt(biased + 1e-5) + bias, atol=1e-5)
    stats = {"mean": 0.1 * mean, "var": 0.9 + 0.1 * unbiased}
    chex.assert_trees_all_close(updated["batch_stats"], stats, rtol=1e-5)
    out = norm.apply({"params": variables["params"], "batch_stats": stats}, x, train=False)
    expected = scale * (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) + bias
    chex.assert_trees_all_close(out, expected, atol=1e-5)


def test_batch_norm_of_one_value_is_finite() -> None:
    norm, x = layers.BatchNorm(), jnp.ones((1, 1, 1, 3))
    out, updated = norm.init_with_output(jax.random.key(0), x, train=True)
    chex.assert_tree_all_finite((out, updated))


def test_batch_norm_keeps_statistics_in_float32() -> None:
    norm, x = layers.BatchNorm(), jnp.asarray(1000 + normal(0, 64, 4, 4, 2), jnp.bfloat16)
    variables = norm.init(jax.random.key(0), x, train=True)
    out, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    chex.assert_tree_all_finite(out)
    assert {v.dtype for v in jax.tree.leaves((variables, updated))} == {jnp.dtype("float32")}
    exact = x.astype(jnp.float32).var((0, 1, 2), ddof=1)
    chex.assert_trees_all_close(updated["batch_stats"]["var"], 0.9 + 0.1 * exact, rtol=1e-3)


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
