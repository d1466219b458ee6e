"""Looking in: u, f and r of every step, from one call, and nothing of it when not asked."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from networks import SMALL, images_and_variables

import mgnet_jax
from mgnet_jax.models import iteration
from mgnet_jax.models.convolution import conv

MGNET = "MgNet[3,2]-[(6,4),(5,7)]-B^{l,i}"


@pytest.mark.parametrize("form", ["dual", "direct"])
def test_features_of_mgnet_solve_its_system(form: str) -> None:
    model = mgnet_jax.create(MGNET, 3, form=form)
    images, variables = images_and_variables(model)
    found = jax.jit(lambda v, x: mgnet_jax.features(model, v, x))(variables, images)
    assert list(found) == ["level1", "level2"]
    chex.assert_shape(found["level1"]["u"], (4, 5, 8, 7, 6))
    chex.assert_shape(found["level1"]["r"], (4, 5, 8, 7, 4))
    chex.assert_shape(found["level2"]["u"], (3, 5, 4, 4, 5))
    chex.assert_shape(found["level2"]["f"], (5, 4, 4, 7))
    assert not jnp.any(found["level1"]["u"][0])
    for level, values in found.items():
        A = variables["params"][level]["A"]
        assert float(values["u"].min()) >= 0
        for u, r in zip(values["u"], values["r"], strict=True):
            chex.assert_trees_all_close(r, values["f"] - conv(u, A), atol=1e-4)
    head = variables["params"]["head"]["linear"]
    logits = found["level2"]["u"][-1].mean((1, 2)) @ head["kernel"] + head["bias"]
    chex.assert_trees_all_close(logits, model.apply(variables, images), atol=1e-5)


@pytest.mark.parametrize("key", SMALL)
def test_every_family_shows_its_levels(key: str) -> None:
    model = mgnet_jax.create(SMALL[key], 3)
    images = jax.ShapeDtypeStruct((2, 32, 33, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    found = jax.eval_shape(lambda v, x: mgnet_jax.features(model, v, x), variables, images)
    shapes = {level: {n: x.shape[:-3] for n, x in v.items()} for level, v in found.items()}
    grids = [f"level{i}" for i in range(1, 6)]
    expected = {
        "mgnet": {
            "level1": {"u": (4, 2), "r": (4, 2), "f": (2,)},
            "level2": {"u": (2, 2), "r": (2, 2), "f": (2,)},
        },
        "data-feature": {
            "level1": {"u": (4, 2), "r": (4, 2), "f": (2,)},
            "level2": {"u": (2, 2), "r": (1, 2), "f": (2,)},
        },
        "resnet": {"level1": {"r": (4, 2)}, "level2": {"r": (3, 2)}},
        "resnet-table3": {"level1": {"r": (4, 2)}, "level2": {"r": (4, 2)}},
        "pre-act": {"level1": {"r": (4, 2)}, "level2": {"r": (3, 2)}},
        "pre-act-table3": {
            "level1": {"r": (4, 2)},  # A^{l,i} there: no u is implied
            "level2": {"r": (3, 2), "u": (3, 2)},
        },
        "bottleneck": {level: {"x": (3, 2)} for level in grids[:3]},
        "wide": {level: {"x": (3, 2)} for level in grids[:3]},
        "alexnet": {level: {"x": (1, 2)} for level in grids},
        "vgg": {level: {"x": (1, 2)} for level in grids},
    }
    assert shapes == expected[key]


@pytest.mark.parametrize("key", ["mgnet", "pre-act", "bottleneck", "vgg"])
def test_nothing_is_computed_for_it_when_not_asked(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program() -> str:
        model = mgnet_jax.create(SMALL[key], 3)
        images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        jax.clear_caches()
        return str(jax.make_jaxpr(lambda v, x: model.apply(v, x))(variables, images))

    usual = program()
    monkeypatch.setattr(iteration, "recording", lambda module: False)
    assert program() == usual


def test_flaxs_own_capture_sees_every_step() -> None:
    model = mgnet_jax.create(MGNET, 3)
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def apply(v: Any, x: Any) -> Any:
        return model.apply(v, x, capture_intermediates=True)[1]["intermediates"]

    found = jax.eval_shape(apply, variables, images)
    (u, _), _ = found["level1"]["step"]["__call__"][0]
    assert u.shape == (3, 2, 8, 8, 6)
