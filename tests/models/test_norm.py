"""Batch norm against its definition; its own gradient against that of the definition."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.models import norm


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_batch_norm_follows_its_definition() -> None:
    """Normalises with the biased variance and stores the unbiased one, momentum 0.9."""
    x = 3 + 2 * normal(0, 4, 3, 2, 5)
    scale, bias = normal(1, 5), normal(2, 5)
    module = norm.BatchNorm()
    variables = module.init(jax.random.key(0), x, train=True)
    chex.assert_trees_all_equal(
        variables["batch_stats"], {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    )
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": variables["batch_stats"]}
    out, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, biased = x.mean((0, 1, 2)), x.var((0, 1, 2))
    unbiased = x.var((0, 1, 2), ddof=1)
    chex.assert_trees_all_close(out, scale * (x - mean) / np.sqrt(biased + 1e-5) + bias, atol=1e-5)
    stats = {"mean": 0.1 * mean, "var": 0.9 + 0.1 * unbiased}
    chex.assert_trees_all_close(updated["batch_stats"], stats, rtol=1e-5)
    out = module.apply({"params": variables["params"], "batch_stats": stats}, x, train=False)
    expected = scale * (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) + bias
    chex.assert_trees_all_close(out, expected, atol=1e-5)


def test_batch_norm_of_one_value_is_finite() -> None:
    module, x = norm.BatchNorm(), jnp.ones((1, 1, 1, 3))
    out, updated = module.init_with_output(jax.random.key(0), x, train=True)
    chex.assert_tree_all_finite((out, updated))


def test_batch_norm_keeps_statistics_in_float32() -> None:
    module, x = norm.BatchNorm(), jnp.asarray(1000 + normal(0, 64, 4, 4, 2), jnp.bfloat16)
    variables = module.init(jax.random.key(0), x, train=True)
    out, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    chex.assert_tree_all_finite(out)
    assert {v.dtype for v in jax.tree.leaves((variables, updated))} == {jnp.dtype("float32")}
    exact = x.astype(jnp.float32).var((0, 1, 2), ddof=1)
    chex.assert_trees_all_close(updated["batch_stats"]["var"], 0.9 + 0.1 * exact, rtol=1e-3)


def plain(x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool) -> jax.Array:
    """Batch norm as it is defined, for JAX to differentiate."""
    mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    y = scale * (x - mean) / jnp.sqrt(var + norm.BN_EPSILON) + bias
    return jax.nn.relu(y) if relu else y


def ours(x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool) -> jax.Array:
    return norm.normalise(x, scale, bias, relu)[0]


@pytest.mark.parametrize("relu", [False, True])
def test_its_derivatives_are_those_of_its_definition(relu: bool) -> None:
    """In reverse mode, in forward mode, and one over the other, in float64."""
    with jax.enable_x64(True):
        x, dx, g = (jnp.asarray(normal(seed, 4, 3, 5, 6), float) for seed in (0, 1, 2))
        point = (3 + 2 * x, jnp.asarray(normal(3, 6), float), jnp.asarray(normal(4, 6), float))
        along = (dx, jnp.asarray(normal(5, 6), float), jnp.asarray(normal(6, 6), float))

        def results(f: Any) -> Any:
            def loss(*arguments: jax.Array) -> jax.Array:
                return jnp.sum(g * jnp.sin(f(*arguments, relu)))

            grad = jax.grad(loss, (0, 1, 2))
            forward = jax.jvp(lambda *a: f(*a, relu), point, along)
            return grad(*point), forward, jax.jvp(grad, point, along), jax.jit(grad)(*point)

        chex.assert_trees_all_close(results(ours), results(plain), rtol=1e-9, atol=1e-11)


def test_moments_lose_nothing_far_from_zero() -> None:
    """Every image near another large number; in float32, against float64."""
    for far in (0.0, 1e3, np.float32(1e4) * normal(0, 8, 1, 1, 1)):
        x = (far + normal(1, 8, 5, 7, 3)).astype(np.float32)
        mean, var = norm.moments(jnp.asarray(x))
        exact = x.astype(np.float64)
        np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backward_pass_keeps_x_alone(dtype: str) -> None:
    x, vector = jnp.ones((2, 3, 4, 5), dtype), jnp.ones(5)
    _, transposed = jax.vjp(lambda *a: ours(*a, True), x, vector, vector)
    kept = jax.tree.leaves(transposed)
    assert [(a.shape, a.dtype) for a in kept if a.ndim > 1] == [(x.shape, x.dtype)]
    assert all(a.shape == (5,) for a in kept if a.ndim <= 1)
