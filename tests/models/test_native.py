"""Convolutions by code that the machine's compiler makes: against float64, and without one."""

import dataclasses
import os
import platform
import re
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import images_and_variables, needs_compiler

import mgnet_jax
from mgnet_jax.models import ModelError, convolution, native, native_conv
from mgnet_jax.models.convolution import Geometry, conv
from mgnet_jax.weights.facts import Facts

SHAPES = (("y", "y"), ("x", "x"), ("k", "kernel"))
by_native = partial(conv, algorithm="native")


@pytest.fixture
def small_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes what is so small that it would be left to XLA."""
    monkeypatch.setattr("mgnet_jax.models.geometry.SMALL", 0)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def all_three(x: Any, kernel: Any, g: Any, algorithm: str = "native") -> Any:
    y, vjp = jax.vjp(partial(conv, algorithm=algorithm), x, kernel)
    return y, *vjp(g)


@needs_compiler
@pytest.mark.usefixtures("small_too")
@pytest.mark.parametrize(
    ("n", "height", "width", "c_in", "c_out"),
    [
        (2, 8, 8, 16, 16),
        (1, 7, 9, 16, 48),
        (3, 5, 6, 48, 16),
        (5, 4, 4, 16, 32),
        (7, 1, 3, 32, 16),
        (29, 11, 12, 80, 112),
        (1, 28, 28, 256, 64),
    ],
)
def test_it_is_the_convolution(n: int, height: int, width: int, c_in: int, c_out: int) -> None:
    """And its gradients, against float64, of any number of tiles and rows that products have."""
    x, kernel = normal(0, n, height, width, c_in), normal(1, 3, 3, c_in, c_out)
    g = normal(2, n, height, width, c_out)
    text = jax.jit(all_three).lower(x, kernel, g).as_text()
    assert len(re.findall("custom_call @mgnet_", text)) == 3
    with jax.enable_x64(True):
        wide = [jnp.asarray(a, jnp.float64) for a in (x, kernel, g)]
        exact = [np.asarray(a) for a in jax.jit(all_three)(*wide)]
    found = jax.jit(all_three)(x, kernel, g)
    for a, b in zip(found, exact, strict=True):
        assert np.abs(a - b).max() <= 3e-5 * np.abs(b).max()
    chex.assert_trees_all_equal(jax.jit(all_three)(x, kernel, g), found)  # to the last digit


@needs_compiler
@pytest.mark.usefixtures("small_too")
@pytest.mark.parametrize(
    ("x", "size", "stride", "padding", "c_out"),
    [
        ((8, 9, 7, 3), 3, 1, 1, 16),
        ((9, 10, 12, 16), 3, 2, 1, 48),
        ((8, 7, 5, 80), 3, 2, 1, 32),
        ((11, 6, 6, 32), 1, 2, 0, 16),
        ((8, 12, 12, 1), 4, 2, 1, 32),
        ((8, 23, 21, 3), 7, 2, 3, 64),
        ((8, 31, 28, 3), 11, 4, 2, 16),
        ((8, 7, 6, 5), 5, 1, 0, 16),
    ],
)
def test_it_is_any_convolution(
    x: tuple[int, ...], size: int, stride: int, padding: int, c_out: int
) -> None:
    """And its gradients, of any stride, margins, and channels in, against float64."""
    geometry = Geometry(x, (size, size, x[3], c_out), stride, padding, "native")
    names = "xyk" if x[3] % native.LANES == 0 else "yk"
    given = {name: normal(i, *getattr(geometry, shape)) for i, (name, shape) in enumerate(SHAPES)}
    for name in names:
        assert convolution._algorithm(name, geometry, jnp.float32) == "direct"
        a, b = (given[other] for other in "xky" if other != name)
        a, b = (b, a) if name == "x" else (a, b)  # g comes first
        plain = {"y": convolution._y, "x": convolution._x, "k": convolution._k}[name]
        with jax.enable_x64(True):
            wide = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
            exact = np.asarray(plain(*wide, geometry=geometry))
        function = jax.jit(partial(native_conv.direct, name, geometry=geometry))
        found = function(a, b)
        assert np.abs(found - exact).max() <= 3e-6 * np.abs(exact).max()
        chex.assert_trees_all_equal(function(a, b), found)  # to the last digit


@needs_compiler
def test_how_many_share_the_work_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel, g = normal(0, 40, 16, 16, 48), normal(1, 3, 3, 48, 32), normal(2, 40, 16, 16, 32)
    results = []
    for workers in (1, 2, 3, 64):
        monkeypatch.setattr(native, "cores", lambda n=workers: n)
        jax.clear_caches()
        results.append(jax.jit(all_three)(x, kernel, g))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert np.abs(a - b).max() <= 3e-5 * np.abs(b).max()


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the options are of x86-64")
@pytest.mark.usefixtures("small_too", "nothing_built")
@pytest.mark.parametrize("narrow", ["-mno-avx512f", "-mno-avx"])
def test_processors_with_narrower_registers(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"{os.environ.get('CXX', 'c++')} {narrow}")
    version = native.load()
    monkeypatch.setattr(native, "load", lambda: version)
    test_it_is_the_convolution(5, 7, 9, 48, 80)


def away_from_corners(params: Any) -> Any:
    """Batch norms with biases of 8 and -8 in turn, so that no ReLU's argument is near 0.

    There its derivative jumps: a change in the images' last digit moves gradients by over 1e-3.
    """

    def shifted(path: Any, leaf: Any) -> Any:
        if "bn" not in jax.tree_util.keystr(path) or path[-1].key != "bias":
            return leaf
        return jnp.broadcast_to(8.0 * (-1.0) ** jnp.arange(leaf.shape[-1]), leaf.shape)

    return jax.tree_util.tree_map_with_path(shifted, params)


@needs_compiler
def test_a_network_and_its_gradients_are_the_same() -> None:
    """In loops of smoothing steps too; logits within 1e-4 of XLA's (float32)."""

    def computed(algorithm: str) -> Any:
        model = mgnet_jax.create("MgNet[5,2,1]-[32]-B^l", 10, convolution=algorithm)
        images, variables = images_and_variables(model, shape=(8, 32, 32, 3))
        images = images + 2 * normal(3, 8, 1, 1, 3)  # so different that the logits are

        def loss(params: Any) -> Any:
            variables_ = {**variables, "params": params}
            logits, _ = model.apply(variables_, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(logits)), logits

        gradient = jax.jit(jax.grad(loss, has_aux=True))
        (_, logits), (gradients, _) = map(
            gradient, (variables["params"], away_from_corners(variables["params"]))
        )
        return gradients, logits

    (gradients, logits), (expected, right) = computed("native"), computed("xla")
    assert np.abs(logits - right).max() <= 1e-4 * np.abs(right).max()
    for found, exact in zip(*map(jax.tree.leaves, (gradients, expected)), strict=True):
        # some gradients would be zero but for rounding
        assert np.linalg.norm(found - exact) <= 1e-3 * np.linalg.norm(exact) + 1e-6


@needs_compiler
@pytest.mark.usefixtures("small_too")
def test_all_derivatives_are_there() -> None:
    x, kernel, t = normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 16), normal(2, 2, 8, 8, 16)
    _, tangent = jax.jvp(lambda x: by_native(x, kernel), (x,), (t,))
    chex.assert_trees_all_close(tangent, conv(t, kernel), rtol=1e-4, atol=1e-3)

    def cubes(algorithm: str, x: Any) -> Any:
        return jnp.sum(conv(x, kernel, algorithm=algorithm) ** 3)

    second = [jax.jvp(jax.grad(partial(cubes, name)), (x,), (t,))[1] for name in ("native", "xla")]
    assert np.abs(second[0] - second[1]).max() <= 1e-4 * np.abs(second[1]).max()


def takes(x: tuple[int, ...], kernel: tuple[int, ...], stride: int = 1, padding: int = 1) -> bool:
    return native_conv.filters(Geometry(x, kernel, stride, padding, "native"))


def test_what_it_leaves_to_others() -> None:
    assert takes((8, 32, 32, 64), (3, 3, 64, 128))
    assert not takes((8, 32, 32, 64), (3, 3, 64, 128), stride=2)
    assert not takes((8, 32, 32, 64), (1, 1, 64, 128), padding=0)
    assert not takes((8, 32, 32, 3), (3, 3, 3, 64))
    assert not takes((8, 32, 32, 64), (3, 3, 64, 100))
    assert takes((8, 8, 8, 256), (3, 3, 256, 256)) and not takes((8, 4, 4, 256), (3, 3, 256, 256))
    geometry = Geometry((8, 32, 32, 64), (3, 3, 64, 64), 1, 1, "native")
    kinds = [convolution._algorithm("y", geometry, jnp.dtype(d)) for d in ("float32", "bfloat16")]
    assert kinds == ["native", "xla"]


@needs_compiler
def test_only_one_cpu_has_it() -> None:
    """Programs for accelerators, and for several devices, are what they are without it."""
    shapes = [(4, 32, 32, 32), (3, 3, 32, 32), (4, 32, 32, 32)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def program(algorithm: str, platform: str, devices: int = 1) -> str:
        mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
        sharding = jax.NamedSharding(mesh, jax.sharding.PartitionSpec())
        traced = jax.jit(partial(all_three, algorithm=algorithm), in_shardings=sharding)
        return traced.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()

    for case in (("cuda",), ("tpu",), ("cpu", 2)):
        assert "mgnet_" not in program("native", *case)
        assert program("native", *case) == program("auto", *case)
    assert "mgnet_" in program("native", "cpu")


@needs_compiler
def test_its_memory_is_what_the_compiler_is_asked_for() -> None:
    x, kernel, g = normal(0, 8, 32, 32, 32), normal(1, 3, 3, 32, 32), normal(2, 8, 32, 32, 32)
    geometry = Geometry(x.shape, kernel.shape, 1, 1, "native")
    for short, primitive, pair in (
        ("y", convolution._conv_p, (x, kernel)),
        ("k", convolution._conv_k_p, (x, g)),
    ):
        compiled = jax.jit(partial(primitive.bind, geometry=geometry)).lower(*pair).compile()
        told = convolution.working_memory(f"conv_{short}", geometry, jnp.float32)
        assert compiled.memory_analysis().temp_size_in_bytes == pytest.approx(told, rel=0.01)


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGNET_NATIVE", str(tmp_path / "native"))
    monkeypatch.setattr(native, "load", native.load.__wrapped__)


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize(
    ("compiler", "words"),
    [("no-such-compiler -O1", "there is no 'no-such-compiler'"), ("false", "which failed (false")],
)
def test_without_a_compiler_it_says_so(
    compiler: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(ModelError, match=re.escape(words)) as error:
        by_native(normal(0, 1, 8, 8, 16), normal(1, 3, 3, 16, 16))
    assert "convolution='auto'" in str(error.value) and "CXX" in str(error.value)


@needs_compiler
@pytest.mark.usefixtures("nothing_built")
def test_a_folder_that_cannot_be_written_and_a_damaged_file_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "build", lambda: tmp_path / "damaged.so")
    (tmp_path / "damaged.so").write_bytes(b"\x7fELF")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*damaged.so.*MGNET_NATIVE"):
        native.load()
    monkeypatch.undo()
    monkeypatch.setenv("MGNET_NATIVE", str(tmp_path / "damaged.so"))
    with pytest.raises(ModelError, match=r"cannot be kept: .*damaged.so.*MGNET_NATIVE"):
        native.build()


@needs_compiler
@pytest.mark.usefixtures("nothing_built")
def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = native.build()
    assert [*native.folder().iterdir()] == [built]
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert native.build() == built


def test_what_was_trained_with_it_is_used_without() -> None:
    facts = Facts("MgNet[1]-[8]-B^l", "cifar", 3, (8, 8, 3), (0.5,) * 3, (0.2,) * 3)
    facts = dataclasses.replace(facts, config={"model.convolution": "native", "model.unroll": 2})
    assert facts.network() == facts.network(convolution="auto")
    assert facts.network(convolution="native").convolution == "native"
