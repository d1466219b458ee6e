"""Sums over the pixels of each image: their values, all their derivatives, and by what they are."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mgnet_jax.models import pixels


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(1, 1, shape), jnp.float32)


@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (2, 1, 1, 3), (1, 32, 32, 17)])
def test_mean_is_each_images_own(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    expected = np.asarray(x, np.float64).mean((1, 2))
    for mean in (pixels.mean, jax.jit(pixels.mean)):
        chex.assert_trees_all_close(mean(x), expected.astype(np.float32), rtol=1e-5)


def test_float64_stays() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 5, 3)))
        np.testing.assert_allclose(jax.jit(pixels.mean)(x), np.mean(x, (1, 2)), rtol=1e-13)


def test_sums_and_spreads_are_each_others_transposes() -> None:
    x, v = images(2, 3, 4, 5), images(2, 5)
    spread = pixels.spread(v, x.shape)
    chex.assert_trees_all_equal(spread, jnp.broadcast_to(v[:, None, None], x.shape))
    inner = jnp.vdot(spread, x), jnp.vdot(v, pixels.mean(x)) * 12
    np.testing.assert_allclose(*inner, rtol=1e-5)
    (of_mean,) = jax.linear_transpose(pixels.mean, x)(v)
    chex.assert_trees_all_close(of_mean, spread / 12)
    (of_spread,) = jax.linear_transpose(lambda v: pixels.spread(v, x.shape), v)(x)
    chex.assert_trees_all_close(of_spread, pixels.mean(x) * 12, rtol=1e-5)


def test_they_can_be_differentiated_again_and_again() -> None:
    def variance(x: jax.Array) -> jax.Array:
        return pixels.mean((x - pixels.spread(pixels.mean(x), x.shape)) ** 2)

    check_grads(jax.jit(variance), (images(2, 3, 2, 2),), order=2, rtol=2e-2)


@pytest.mark.parametrize("axis", [0, 2, 4])
def test_vmap_is_one_by_one(axis: int) -> None:
    x = images(2, 3, 4, 5, 6)
    each = [pixels.mean(jnp.take(x, i, axis)) for i in range(x.shape[axis])]
    chex.assert_trees_all_close(jax.vmap(pixels.mean, axis)(x), jnp.stack(each), rtol=1e-5)
    v = jnp.moveaxis(images(2, 3, 4), 0, axis // 2)
    spread = jax.vmap(lambda v: pixels.spread(v, (3, 5, 5, 4)), axis // 2)(v)
    assert spread.shape == (2, 3, 5, 5, 4)
    chex.assert_trees_all_equal(spread[:, :, 1, 2], jnp.moveaxis(v, axis // 2, 0))


def test_the_platform_that_a_program_is_for_decides() -> None:
    traced = jax.jit(pixels.mean).trace(jax.ShapeDtypeStruct((4, 8, 8, 16), jnp.float32))
    for platform, product in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("dot_general" in text, "stablehlo.reduce" in text) == (product, not product)
