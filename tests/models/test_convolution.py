"""The convolution and its gradients against their definitions, in every way to differentiate."""

import re
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from networks import images_and_variables

import mgnet_jax
from mgnet_jax.models import ModelError, conv_cpu, convolution
from mgnet_jax.models.convolution import Geometry, conv


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
    out = conv(jnp.asarray(x), jnp.asarray(kernel), stride)
    chex.assert_trees_all_close(out, conv_reference(x, kernel, stride), atol=2e-5)


@pytest.mark.parametrize(("height", "width", "size", "stride"), SHAPES)
def test_conv_gradients_are_jaxs(height: int, width: int, size: int, stride: int) -> None:
    x, kernel = normal(0, 2, height, width, 3), normal(1, size, size, 3, 4)
    pad = size // 2

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    expected, vjp_plain = jax.vjp(plain, x, kernel)
    _, vjp = jax.vjp(lambda x, k: conv(x, k, stride), x, kernel)
    g = normal(2, *expected.shape)
    chex.assert_trees_all_close(jax.jit(vjp)(g), vjp_plain(g), atol=1e-5)


def test_conv_gradients_can_be_differentiated_again() -> None:
    x, kernel = normal(0, 1, 4, 4, 2), normal(1, 3, 3, 2, 2)

    def curvature(x: jax.Array) -> jax.Array:
        inner = jax.grad(lambda x: jnp.sum(conv(x, kernel, 2) ** 3))
        return jnp.sum(inner(x) ** 2)

    step = 1e-2 * normal(2, *x.shape)
    numeric = (curvature(x + step) - curvature(x - step)) / 2
    assert jnp.vdot(jax.grad(curvature)(x), step) == pytest.approx(float(numeric), rel=1e-2)


def test_a_hessian_vector_product_is_forward_over_reverse() -> None:
    x, kernel = normal(0, 1, 4, 4, 2), normal(1, 3, 3, 2, 2)
    v = normal(2, *x.shape)

    def cubes(x: jax.Array) -> jax.Array:
        return jnp.sum(conv(x, kernel, 2) ** 3)

    _, forward = jax.jvp(jax.grad(cubes), (x,), (v,))
    reverse = jax.grad(lambda x: jnp.vdot(jax.grad(cubes)(x), v))(x)
    chex.assert_trees_all_close(forward, reverse, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_platform_that_a_program_is_for_decides(stride: int) -> None:
    """On accelerators a convolution and its gradients are XLA's own, also when lowered here."""
    x = jax.ShapeDtypeStruct((4, 32, 32, 96), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 96, 96), jnp.float32)

    def program(algorithm: str, platform: str) -> list[str]:
        def gradients(x: jax.Array, kernel: jax.Array) -> jax.Array:
            y, vjp = jax.vjp(lambda x, k: conv(x, k, stride, algorithm=algorithm), x, kernel)
            return vjp(y)

        lowered = jax.jit(gradients).trace(x, kernel).lower(lowering_platforms=(platform,))
        return sorted(re.findall(r"stablehlo.(convolution|while|dot_general)", lowered.as_text()))

    for platform in ("cuda", "tpu"):
        for algorithm in ("auto", "minimal"):
            assert program(algorithm, platform) == program("xla", platform)
            assert program(algorithm, platform).count("convolution") == 3
    filtered, direct = (program(a, "cpu").count("convolution") for a in ("minimal", "auto"))
    assert (filtered, direct) == ((0, 2) if stride == 1 else (5, 5))  # 4 are the gradient of x


@pytest.mark.parametrize(
    ("height", "width", "size", "stride", "padding", "c_in", "c_out"),
    [
        (6, 7, 3, 1, 1, 3, 4),
        (6, 7, 3, 1, 1, 20, 18),
        (7, 6, 3, 2, 1, 2, 17),
        (9, 8, 7, 2, 3, 17, 2),
        (17, 14, 11, 4, 2, 3, 4),
        (5, 6, 1, 2, 0, 2, 17),
    ],
)
def test_what_cpus_compute_is_what_others_do(
    height: int, width: int, size: int, stride: int, padding: int, c_in: int, c_out: int
) -> None:
    """Narrow and wide: one CPU's algorithms against accelerators' and those of several CPUs."""
    geometry = Geometry((5, height, width, c_in), (size, size, c_in, c_out), stride, padding)
    x, kernel, g = (
        jnp.asarray(normal(i, *shape))
        for i, shape in enumerate((geometry.x, geometry.kernel, geometry.y))
    )

    @jax.jit
    def found() -> Any:
        return (
            conv_cpu.by_pairs(x, kernel, stride, [(padding, padding)] * 2),
            conv_cpu.gradient_of_images(g, kernel, (height, width), stride, padding),
            *[conv_cpu.gradient_of_kernel(x, g, size, stride, padding)] * 2,
        )

    @jax.jit
    def expected() -> Any:
        return (
            convolution._y(x, kernel, geometry=geometry),
            convolution._x(g, kernel, geometry=geometry),
            convolution._k(x, g, geometry=geometry),
            convolution._xla_k(x, g, geometry=geometry),
        )

    chex.assert_trees_all_close(found(), expected(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("c_in", "c_out"), [(16, 17), (17, 16)])
def test_large_convolutions_have_algorithms_of_their_own_on_a_cpu(
    stride: int, c_in: int, c_out: int
) -> None:
    def algorithms(n: int) -> list[str]:
        geometry = Geometry((n, 32, 32, c_in), (3, 3, c_in, c_out), stride, 1)
        x, k, g = (
            jax.ShapeDtypeStruct(shape, jnp.float32)
            for shape in (geometry.x, geometry.kernel, geometry.y)
        )
        texts = [
            jax.jit(partial(primitive.bind, geometry=geometry)).lower(*pair).as_text()
            for primitive, pair in (
                (convolution._conv_p, (x, k)),
                (convolution._conv_x_p, (g, k)),
                (convolution._conv_k_p, (x, g)),
            )
        ]
        found = [
            re.findall(r"convolution\(.*stride = \[\d, (\d)\]|(dot_general)", t) for t in texts
        ]
        return ["".join("".join(one) for one in each) for each in found]

    pairs, plain = str(2 * stride), str(stride)
    of_images = "1111" if stride == 2 else "2" if c_in == 16 else "1"
    of_kernel = "dot_general" * (2 * (3 if stride == 2 else 1))  # a slice, and the images left over
    large = [pairs if c_out == 16 else plain, of_images, of_kernel]
    assert algorithms(81) == large
    assert algorithms(1)[:1] == [plain] and "dot_general" not in algorithms(1)[2]


@pytest.mark.parametrize(("n", "stride"), [(7, 1), (4, 2), (1, 1)])
def test_images_are_taken_some_at_a_time(
    n: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, g = normal(0, n, 6, 6, 3), normal(1, n, 6 // stride, 6 // stride, 4)
    whole = conv_cpu.gradient_of_kernel(jnp.asarray(x), jnp.asarray(g), 3, stride, 1)
    monkeypatch.setattr(conv_cpu, "SLICE", 1)
    assert conv_cpu.images_at_a_time(x.shape, g.shape, 3, stride) == min(n, 2)
    parts = conv_cpu.gradient_of_kernel(jnp.asarray(x), jnp.asarray(g), 3, stride, 1)
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-4)


def test_gradients_of_kernels_in_bfloat16_are_summed_in_float32() -> None:
    x, g = (jnp.asarray(normal(i, 8, 16, 16, 4), jnp.bfloat16) for i in range(2))
    exact = conv_cpu.gradient_of_kernel(x.astype("float32"), g.astype("float32"), 3, 1, 1)
    rounded = conv_cpu.gradient_of_kernel(x, g, 3, 1, 1)
    assert rounded.dtype == jnp.bfloat16
    chex.assert_trees_all_close(rounded.astype("float32"), exact, rtol=2**-8)


@pytest.mark.parametrize("axes", [(0, None), (3, None), (0, 0), (None, 1)])
def test_vmap_is_one_by_one(axes: tuple[int | None, int | None]) -> None:
    x, kernel = normal(0, 3, 2, 5, 3, 2), normal(1, 3, 3, 3, 2, 4)
    x, kernel = x if axes[0] is not None else x[0], kernel if axes[1] is not None else kernel[0]
    out = jax.vmap(lambda x, k: conv(x, k, 2), axes)(x, kernel)
    one = [np.take(a, 1, n) if n is not None else a for a, n in zip((x, kernel), axes, strict=True)]
    chex.assert_trees_all_close(out[1], conv_reference(*one, 2), atol=1e-4)


@pytest.mark.parametrize(
    ("padding", "size", "stride"), [(2, 11, 4), (5, 11, 4), (0, 3, 2), (2, 3, 1)]
)
def test_any_padding_has_its_gradients(padding: int, size: int, stride: int) -> None:
    x, kernel = normal(0, 2, 17, 14, 3), normal(1, size, size, 3, 4)
    results = []
    for algorithm in ("auto", "xla"):

        def call(x: jax.Array, k: jax.Array, algorithm: str = algorithm) -> jax.Array:
            return conv(x, k, stride, padding=padding, algorithm=algorithm)

        out, vjp = jax.vjp(call, x, kernel)
        results.append((out, vjp(jnp.sin(out))))
    chex.assert_trees_all_close(*results, atol=1e-3, rtol=1e-4)


def test_groups_are_convolutions_side_by_side() -> None:
    x, kernel = normal(0, 2, 6, 5, 4), normal(1, 3, 3, 2, 6)
    expected = np.concatenate(
        [
            conv_reference(x[..., :2], kernel[..., :3], 1),
            conv_reference(x[..., 2:], kernel[..., 3:], 1),
        ],
        axis=-1,
    )
    chex.assert_trees_all_close(
        conv(jnp.asarray(x), jnp.asarray(kernel), groups=2), expected, atol=1e-4
    )


@pytest.mark.parametrize("convolution", ["auto", "xla"])
def test_forward_mode_is_reverse_mode(convolution: str) -> None:
    model = mgnet_jax.create("MgNet[2,1]-[3]-B^l", 3, convolution=convolution, unroll=1)
    images, variables = images_and_variables(model, shape=(2, 6, 6, 1))
    direction = jnp.asarray(normal(1, *images.shape))

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        return model.apply(variables, images)

    _, tangent = jax.jvp(logits, (images,), (direction,))
    _, linear = jax.linearize(logits, images)
    jacobians = (jax.jacfwd(logits)(images), jax.jacrev(logits)(images))
    chex.assert_trees_all_close(*jacobians, rtol=1e-3, atol=1e-4)
    product = jnp.einsum("ncbhwd,bhwd->nc", jacobians[1], direction)
    chex.assert_trees_all_close(tangent, linear(direction), product, rtol=1e-3, atol=1e-4)


def test_a_grid_smaller_than_the_kernel_is_named() -> None:
    with pytest.raises(ModelError, match=r"a grid of 2x9 is too small for a kernel of 11x11"):
        conv(jnp.zeros((1, 2, 9, 1)), jnp.zeros((11, 11, 1, 1)), 4, padding=2)


@pytest.mark.parametrize(
    ("n", "height", "width", "c_in", "c_out"),
    [
        (1, 24, 27, 96, 97),
        pytest.param(3, 25, 24, 98, 96, marks=pytest.mark.slow),
        pytest.param(2, 32, 32, 96, 112, marks=pytest.mark.slow),
        pytest.param(7, 28, 28, 128, 128, marks=pytest.mark.slow),
    ],
)
def test_minimal_filtering_is_the_convolution(
    n: int, height: int, width: int, c_in: int, c_out: int
) -> None:
    """And its gradients, against float64; also of grids that tiles of 4x4 do not fit."""
    x, kernel = normal(0, n, height, width, c_in), normal(1, 3, 3, c_in, c_out)
    g = normal(2, n, height, width, c_out)

    def both(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Any:
        y, vjp = jax.vjp(partial(conv, algorithm="minimal"), x, kernel)
        return y, *vjp(g)

    lowered = jax.jit(both).lower(x, kernel, g).as_text()
    assert "stablehlo.convolution" not in lowered
    with jax.enable_x64(True):
        wide = [jnp.asarray(a, jnp.float64) for a in (x, kernel, g)]
        exact = [np.asarray(a) for a in jax.jit(both)(*wide)]
    for a, b in zip(jax.jit(both)(x, kernel, g), exact, strict=True):
        assert np.abs(a - b).max() <= 3e-5 * np.abs(b).max()


def test_forward_mode_goes_through_all_derivatives() -> None:
    """jvp, jacfwd, linear_transpose and second derivatives, with minimal filtering too."""
    x, kernel = normal(0, 1, 24, 24, 96), normal(1, 3, 3, 96, 96)
    t = normal(2, *x.shape)
    _, tangent = jax.jvp(lambda x: conv(x, kernel, algorithm="minimal"), (x,), (t,))
    chex.assert_trees_all_close(tangent, conv(t, kernel, algorithm="minimal"), rtol=1e-4, atol=1e-3)
    (transposed,) = jax.linear_transpose(lambda x: conv(x, kernel, algorithm="minimal"), x)(t)
    _, vjp = jax.vjp(lambda x: conv(x, kernel, algorithm="minimal"), x)
    chex.assert_trees_all_equal(transposed, vjp(t)[0])
    _, of_grad = jax.jvp(jax.grad(lambda k: jnp.sum(conv(x, k) ** 2)), (kernel,), (kernel,))
    chex.assert_trees_all_close(
        of_grad, jax.grad(lambda k: jnp.sum(conv(x, k) ** 2))(kernel), rtol=1e-3, atol=1.0
    )


def test_it_works_where_jit_is_disabled() -> None:
    x, kernel = normal(0, 2, 6, 6, 2), normal(1, 3, 3, 2, 3)
    gradient = jax.grad(lambda k: jnp.sum(conv(x, k) ** 2))
    with jax.disable_jit():
        one = gradient(kernel)
    chex.assert_trees_all_close(one, gradient(kernel), rtol=1e-5)
