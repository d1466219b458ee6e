"""MgNet-V: down as MgNet, and up again with the same A and B."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mgnet_jax
from mgnet_jax.analysis.variants import doubled, variants
from mgnet_jax.models import ModelError, SpecError, features, parse
from mgnet_jax.models.convolution import conv

NAME = "MgNet-V[2,2,1]-[(4,5),(3,6),(4,4)]-B^{l,i}"
IMAGES = np.random.default_rng(0).normal(size=(5, 9, 8, 1))


def made(**options: Any) -> tuple[Any, Any]:
    """The network in float64 with random batch norms."""
    model = mgnet_jax.create(NAME, 3, dtype="float64", **options)
    tree = jax.jit(model.init)(jax.random.key(0), jnp.asarray(IMAGES))
    rng = np.random.default_rng(1)

    def other(path: Any, x: jax.Array) -> jax.Array:
        bn = path[-1].key in ("scale", "var", "mean", "bias")
        return x + jnp.asarray(rng.uniform(-0.2, 0.4, x.shape)) if bn else x

    return model, jax.tree_util.tree_map_with_path(other, tree)


def by_hand(variables: Any, images: jax.Array) -> jax.Array:
    """The cycle symbol by symbol, in evaluation, in the state (u, f)."""
    p, stats = variables["params"], variables["batch_stats"]

    def s(x: jax.Array, *place: Any, i: int | None = None) -> jax.Array:
        a, b = p, stats
        for name in place:
            a, b = a[name], b[name]
        a, b = (a, b) if i is None else jax.tree.map(lambda v: v[i], (a, b))
        x = a["scale"] * (x - b["mean"]) / jnp.sqrt(b["var"] + 1e-5) + a["bias"]
        return jnp.maximum(x, 0)

    def smooth(level: str, steps: str, u: jax.Array, f: jax.Array) -> jax.Array:
        A, B = p[level]["A"], p[level]["B"]
        for i in range(len(B)):
            inner = s(f - conv(u, A), level, steps, "bn_r", i=i)
            u = u + s(conv(inner, B[i]), level, steps, "bn_B", i=i)
        return u

    f = s(conv(images, p["stem"]["conv"]["kernel"]), "stem", "conv", "bn")
    data, left = {1: f}, {}
    for n, c_u in ((1, 4), (2, 3), (3, 4)):
        if n > 1:
            r = data[n - 1] - conv(left[n - 1], p[f"level{n - 1}"]["A"])
            data[n] = s(
                conv(r, p[f"restrict{n - 1}"]["R"]["kernel"], 2), f"restrict{n - 1}", "R", "bn"
            )
        left[n] = smooth(f"level{n}", "step", jnp.zeros((*data[n].shape[:-1], c_u)), data[n])
    u = left[3]
    for n in (2, 1):
        Pi = p[f"prolong{n}"]["Pi"]
        matrix = jax.jacobian(lambda x, Pi=Pi: conv(x[None], Pi, 2)[0])(left[n][0])
        e = jnp.einsum("hwcyxd,nhwc->nyxd", matrix, u)
        u = smooth(f"level{n}", "step_up", left[n] + s(e, f"prolong{n}", "bn"), data[n])
    mean = jnp.mean(u, (1, 2))
    return mean @ p["head"]["linear"]["kernel"] + p["head"]["linear"]["bias"]


def test_it_is_the_cycle_by_hand_in_both_forms() -> None:
    with jax.enable_x64(True):
        model, variables = made()
        expected = by_hand(variables, jnp.asarray(IMAGES))
        for form in ("dual", "direct"):
            found = model.clone(form=form).apply(variables, jnp.asarray(IMAGES))
            np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_way_down_has_the_residuals_of_mgnet() -> None:
    """Its u' = s(Pi u) changes no residual: the full approximation scheme of a linear A."""
    with jax.enable_x64(True):
        model, variables = made()
        plain = mgnet_jax.create(NAME.replace("-V", ""), 3, dtype="float64")
        assert dataclasses.replace(model.spec, cycle="") == plain.spec
        images = jnp.asarray(IMAGES)
        down = plain.init(jax.random.key(1), images)
        for kind, tree in down.items():
            for name, part in tree.items():
                part.update({k: v for k, v in variables[kind][name].items() if name != "head"})
        seen, expected = (features(m, v, images) for m, v in ((model, variables), (plain, down)))
        assert set(seen) == {*expected, "level1_up", "level2_up"}
        for level, found in expected.items():
            places = len(found["r"])
            np.testing.assert_allclose(seen[level]["r"][:places], found["r"], atol=1e-11)
        np.testing.assert_allclose(seen["level1"]["u"], expected["level1"]["u"], atol=1e-11)
        assert not seen["level2"]["u"][0].any() and expected["level2"]["u"][0].any()
        assert seen["level1_up"]["u"].shape == seen["level1"]["u"].shape
        assert min(float(part["u"].min()) for part in seen.values()) >= 0


def test_logits_of_pixels_have_the_images_mean_of_logits() -> None:
    with jax.enable_x64(True):
        model, variables = made()
        pixels = model.clone(output="pixels").apply(variables, jnp.asarray(IMAGES))
        assert pixels.shape == (5, 9, 8, 3)
        whole = model.apply(variables, jnp.asarray(IMAGES))
        np.testing.assert_allclose(pixels.mean((1, 2)), whole, atol=1e-10)


def test_every_parameter_gets_a_gradient() -> None:
    model, images = mgnet_jax.create(NAME, 3), jnp.asarray(IMAGES, jnp.float32)
    variables = model.init(jax.random.key(0), images)

    def loss(params: Any) -> jax.Array:
        both = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, _ = model.apply(both, images, True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits - 1))

    grads = jax.jit(jax.grad(loss))(variables["params"])
    flat = jax.tree_util.tree_leaves_with_path(grads)
    without = [jax.tree_util.keystr(path) for path, g in flat if not g.any()]
    assert without == ["['level3']['A']"]  # nobody reads the last residual of the coarsest grid
    assert {"step", "step_up"} <= set(grads["level1"]) and "step_up" not in grads["level3"]


def test_other_steps_go_both_ways() -> None:
    with jax.enable_x64(True):
        model, variables = made()
        longer, _ = doubled(model, variables)
        assert longer.spec.nu == (4, 4, 2)
        expected = model.apply(variables, jnp.asarray(IMAGES))
        for v in variants(model, variables):
            if (v.level, v.change, v.steps) in (("level1", "steps", 2), ("level2", "steps", 2)):
                found = longer.apply(v.variables, jnp.asarray(IMAGES))
                np.testing.assert_allclose(found, expected, atol=1e-9)


def test_what_there_is_not_is_a_message() -> None:
    with pytest.raises(ModelError, match=r"output='pixels' is not there for MgNet\[2,2\]"):
        mgnet_jax.create("MgNet[2,2]-[4]-B^l", 3, output="pixels")
    with pytest.raises(SpecError, match="cycle='W' is not one of"):
        dataclasses.replace(parse(NAME), cycle="W")
    assert parse(NAME).canonical == NAME
