"""Convolution, batch norm and initialisers against their definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mgnet_jax.models import layers


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv_reference(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """PyTorch's convolution with padding k // 2, as a sum over the kernel's places."""
    size = kernel.shape[0]
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n + 2 * pad - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, kernel.shape[3]), x.dtype)
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            out += padded[:, rows, columns] @ kernel[i, j]
    return out


SHAPES = [(8, 6, 3, 1), (8, 6, 3, 2), (7, 9, 3, 2), (9, 8, 7, 2), (5, 6, 1, 2), (1, 2, 3, 2)]


@pytest.mark.parametrize(("height", "width", "size", "stride"), SHAPES)
def test_conv_is_pytorchs(height: int, width: int, size: int, stride: int) -> None:
    x, kernel = normal(0, 2, height, width, 3), normal(1, size, size, 3, 4)
    out = layers.conv(jnp.asarray(x), jnp.asarray(kernel), stride)
    chex.assert_trees_all_close(out, conv_reference(x, kernel, stride), atol=2e-5)


@pytest.mark.parametrize(("height", "width", "size", "stride"), SHAPES)
def test_conv_gradients_are_jaxs(height: int, width: int, size: int, stride: int) -> None:
    x, kernel = normal(0, 2, height, width, 3), normal(1, size, size, 3, 4)
    pad = size // 2

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    expected, vjp_plain = jax.vjp(plain, x, kernel)
    _, vjp = jax.vjp(lambda x, k: layers.conv(x, k, stride), x, kernel)
    g = normal(2, *expected.shape)
    chex.assert_trees_all_close(jax.jit(vjp)(g), vjp_plain(g), atol=1e-5)


def test_conv_gradients_can_be_differentiated_again() -> None:
    x, kernel = normal(0, 1, 4, 4, 2), normal(1, 3, 3, 2, 2)

    def curvature(x: jax.Array) -> jax.Array:
        inner = jax.grad(lambda x: jnp.sum(layers.conv(x, kernel, 2) ** 3))
        return jnp.sum(inner(x) ** 2)

    step = 1e-2 * normal(2, *x.shape)
    numeric = (curvature(x + step) - curvature(x - step)) / 2
    assert jnp.vdot(jax.grad(curvature)(x), step) == pytest.approx(float(numeric), rel=1e-2)


def test_a_hessian_vector_product_is_forward_over_reverse() -> None:
    x, kernel = normal(0, 1, 4, 4, 2), normal(1, 3, 3, 2, 2)
    v = normal(2, *x.shape)

    def cubes(x: jax.Array) -> jax.Array:
        return jnp.sum(layers.conv(x, kernel, 2) ** 3)

    _, forward = jax.jvp(jax.grad(cubes), (x,), (v,))
    reverse = jax.grad(lambda x: jnp.vdot(jax.grad(cubes)(x), v))(x)
    chex.assert_trees_all_close(forward, reverse, rtol=1e-4, atol=1e-3)


def test_on_accelerators_conv_is_jaxs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = jnp.asarray(normal(0, 1, 5, 4, 2)), jnp.asarray(normal(1, 3, 3, 2, 2))
    on_cpu = layers.conv(x, kernel, 2)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: layers.conv(x, kernel, 2), (x,), (x,))
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    out, tangent = jax.jvp(lambda x: layers.conv(x, kernel, 2), (x,), (x,))
    chex.assert_trees_all_equal(out, tangent, on_cpu)


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
    head = layers.Head(2000, "pytorch").init(jax.random.key(0), jnp.zeros((1, 2, 2, 16)))
    bias = head["params"]["linear"]["bias"]
    assert float(jnp.abs(bias).max()) == pytest.approx(0.25, rel=0.01)
    assert float(bias.var()) == pytest.approx(0.25**2 / 3, rel=0.05)


def test_stems_halve_as_they_should() -> None:
    images = jnp.zeros((1, 33, 64, 3))
    cifar = layers.Stem("cifar", 4).init_with_output(jax.random.key(0), images, False)[0]
    imagenet = layers.Stem("imagenet", 4).init_with_output(jax.random.key(0), images, False)[0]
    chex.assert_shape(cifar, (1, 33, 64, 4))
    chex.assert_shape(imagenet, (1, 9, 16, 4))
