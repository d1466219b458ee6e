"""What is said of the iterations of networks, against networks of other sizes and against NumPy."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.analysis import linear
from mgnet_jax.analysis.inspection import inspect
from mgnet_jax.analysis.maps import evidence, most_active
from mgnet_jax.analysis.parts import kernel_of, levels_of, steps_of
from mgnet_jax.analysis.trace import trace
from mgnet_jax.analysis.variants import doubled, variants
from mgnet_jax.models import ModelError, Network, create, features

IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 1))
SHARED = "MgNet[2,3]-[4]-B^l"
EACH = "MgNet[2,2]-[(5,4),(3,4)]-B^{l,i}"
PRE_ACT = "pre-act ResNet[2,3]-[4]-A^l-B^{l,i}"
RESNET = "ResNet[2,3]-[4]-A^{l,i}-B^{l,i}"
GENERAL = "DataFeature(sKs,Ks)[2,2]-[4]-B^l"


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def network(name: str, dtype: str = "float64") -> tuple[Network, Any]:
    """A network whose numbers are all random, batch norms and statistics too."""
    model = create(name, 3, dtype=dtype)
    tree = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1), dtype))
    rng = np.random.default_rng(1)

    def other(path: Any, x: jax.Array) -> jax.Array:
        last = path[-1].key
        noise = rng.uniform(0.5, 1.5, x.shape)
        if last in ("scale", "var"):
            return jnp.asarray(noise, x.dtype)
        return x + jnp.asarray((noise - 1) / 5, x.dtype)

    return model, jax.tree_util.tree_map_with_path(other, tree)


@pytest.mark.parametrize("name", [SHARED, EACH, PRE_ACT])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
def test_both_forms_of_the_residual_agree(name: str, dtype: str, bound: float) -> None:
    model, variables = network(name, dtype)
    found = trace(model, variables, [jnp.asarray(IMAGES, dtype)])
    assert [t.level for t in found] == ["level1", "level2"]
    for t in found:
        assert t.disagreement is not None and t.disagreement < bound


def test_numbers_are_those_of_the_features() -> None:
    model, variables = network(SHARED)
    parts = [jnp.asarray(IMAGES[:4]), jnp.asarray(IMAGES[4:])]
    found = trace(model, variables, parts)[1]
    seen = jax.tree.map(np.asarray, features(model, variables, jnp.asarray(IMAGES))["level2"])

    def norm(x: np.ndarray) -> np.ndarray:
        return np.sqrt((x**2).sum((-3, -2, -1)))

    np.testing.assert_allclose(found.residual, norm(seen["r"]) / norm(seen["f"]))
    np.testing.assert_allclose(found.u_norm, norm(seen["u"]))
    np.testing.assert_allclose(found.moved, norm(np.diff(seen["u"], axis=0)))
    np.testing.assert_allclose(found.zeros, (seen["u"] == 0).mean((1, 2, 3, 4)))
    assert found.least == seen["u"].min() >= 0
    assert found.quartiles().shape == (3, 4)


def test_without_u_there_is_a_residual_alone() -> None:
    model, variables = network(RESNET)
    found = trace(model, variables, [jnp.asarray(IMAGES)])
    assert all(t.u_norm is None and t.disagreement is None for t in found)
    assert (found[0].residual[0] == 1).all()


@pytest.mark.parametrize(
    ("name", "state"), [(SHARED, "u"), (GENERAL, "u"), (PRE_ACT, "r"), (RESNET, "r")]
)
def test_the_spectral_radius_is_that_of_the_matrix(name: str, state: str) -> None:
    model, variables = network(name)
    seen = features(model, variables, jnp.asarray(IMAGES[:1]))
    for level, step in (("level1", 1), ("level2", 0)):
        found = linear.linearise(model, variables, seen, level, step)
        assert found.state == state
        size = int(np.prod(found.shape))
        columns = [found.apply(jnp.asarray(e.reshape(found.shape))).ravel() for e in np.eye(size)]
        matrix = np.stack(columns, -1)
        values = np.linalg.eigvals(matrix)
        assert abs(linear.spectral_radius(found) - np.abs(values).max()) < 1e-6
        # the state of the next step is that of this one, for a change that is small
        nudge = np.random.default_rng(2).normal(size=found.shape)
        np.testing.assert_allclose(
            found.apply(jnp.asarray(nudge)).ravel(), matrix @ nudge.ravel(), atol=1e-10
        )


def test_the_error_iteration_is_I_minus_B_A() -> None:
    """Against B' A made of the parts: masks, the batch norms' scales and the two kernels."""
    model, variables = network(SHARED)
    seen = features(model, variables, jnp.asarray(IMAGES[:1]))
    found = linear.linearise(model, variables, seen, "level1", 1)
    step = jax.tree.map(lambda x: x[1], variables["params"]["level1"]["step"])
    stats = jax.tree.map(lambda x: x[1], variables["batch_stats"]["level1"]["step"])
    A, B = (kernel_of(variables, "level1", name) for name in "AB")

    def norm(x: jax.Array, of: str) -> jax.Array:
        own, its = step[of], stats[of]
        return own["scale"] * (x - its["mean"]) / jnp.sqrt(its["var"] + 1e-5) + own["bias"]

    def slope(of: str) -> jax.Array:
        return step[of]["scale"] / jnp.sqrt(stats[of]["var"] + 1e-5)

    conv = model.compute.conv
    r = seen["level1"]["f"] - conv(seen["level1"]["u"][1], A)
    inner = norm(r, "bn_r")
    outer = norm(conv(jnp.maximum(inner, 0), B), "bn_B")
    e = jnp.asarray(np.random.default_rng(3).normal(size=found.shape))
    of_B = conv((inner > 0) * slope("bn_r") * conv(e, A), B)
    np.testing.assert_allclose(found.apply(e), e - (outer > 0) * slope("bn_B") * of_B, atol=1e-12)


def test_damping_is_by_frequency() -> None:
    low = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16  # lets low frequencies through

    def apply(e: jax.Array) -> jax.Array:
        parts = [
            low[i, j] * jnp.roll(e, (i - 1, j - 1), (1, 2)) for i in range(3) for j in range(3)
        ]
        return jnp.sum(jnp.stack(parts), 0)

    found = linear.damping(linear.Linearised("u", (1, 16, 16, 2), apply))
    assert found.shape == (8,) and (np.diff(found) < 0).all()
    assert found[0] > 0.9 and found[-1] < 0.3
    assert linear.damping(linear.Linearised("u", (1, 2, 3, 2), apply)).shape == (1,)


@pytest.mark.parametrize("name", [SHARED, EACH, GENERAL, PRE_ACT, RESNET])
def test_other_numbers_of_steps_are_the_network_with_those(name: str) -> None:
    model, variables = network(name)
    longer, _ = doubled(model, variables)
    run = jax.jit(longer.apply)
    expected = model.apply(variables, jnp.asarray(IMAGES))
    counted: dict[str, list[int]] = {}
    for v in variants(model, variables):
        if v.change != "steps":
            continue
        counted.setdefault(v.level, []).append(v.steps)
        logits = run(v.variables, jnp.asarray(IMAGES))
        if v.steps == v.trained:
            np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
            continue
        assert np.abs(logits - expected).max() > 1e-6
        if v.level != "level1" or v.steps != v.trained - 1 or not v.steps:
            continue
        fewer = model.clone(spec=dataclasses.replace(model.spec, nu=(1, *model.spec.nu[1:])))
        np.testing.assert_allclose(
            logits, fewer.apply(first_step_alone(variables), jnp.asarray(IMAGES)), atol=1e-9
        )
    for level in levels_of(variables):
        assert counted[level] == list(range(2 * steps_of(variables, level) + 1))


def first_step_alone(variables: Any) -> Any:
    """The variables without the second step of level1."""

    def cut(path: Any, x: jax.Array) -> jax.Array:
        level, name = path[1].key, path[2].key
        stacked = name == "step" or (name in "AB" and x.ndim == 5)
        return x[:1] if level == "level1" and stacked else x

    return jax.tree_util.tree_map_with_path(cut, variables)


def test_other_changes_are_what_they_are_called() -> None:
    model, variables = network(EACH)
    found = {
        (v.level, v.change): v.variables["params"][v.level]
        for v in variants(model, variables)
        if v.change != "steps"
    }
    # A is no square here: it has no symmetric part
    assert set(found) == {
        (level, change) for level in ("level1", "level2") for change in ("reversed", "mean B")
    }
    own = variables["params"]["level2"]
    for name in ("bn_r", "bn_B"):
        np.testing.assert_array_equal(
            found["level2", "reversed"]["step"][name]["scale"][:2], own["step"][name]["scale"][::-1]
        )
    np.testing.assert_array_equal(found["level2", "reversed"]["B"][:2], own["B"][::-1])
    np.testing.assert_allclose(found["level2", "mean B"]["B"][1], own["B"].mean(0))
    model, variables = network(SHARED)
    (A,) = (
        v.variables["params"]["level1"]["A"]
        for v in variants(model, variables)
        if (v.level, v.change) == ("level1", "symmetric A")
    )
    np.testing.assert_allclose(A, A[::-1, ::-1].swapaxes(-1, -2))


def test_all_of_it_in_one_call_and_as_json() -> None:
    model, variables = network(SHARED)
    labels = np.asarray(model.apply(variables, jnp.asarray(IMAGES))).argmax(-1)
    found = inspect(model, variables, IMAGES, labels)
    assert found.images == 6 and found.accuracy == 1.0
    assert [(d.level, d.step) for d in found.dynamics] == [
        (level, step) for level, nu in (("level1", 2), ("level2", 3)) for step in range(1, nu + 1)
    ]
    as_trained = [a.accuracy for a in found.ablations if a.steps == a.trained]
    assert 1.0 in as_trained
    json = found.as_json()
    assert json["dynamics"][0]["eigenvalues"][0][0] == found.dynamics[0].eigenvalues[0].real
    assert json["operators"][1]["character"]["condition"] == found.operators[1].character.condition


def test_a_network_without_a_system_is_a_message() -> None:
    model, variables = network("WRN-10-1")
    with pytest.raises(ModelError, match=r"WRN-10-1 is not made of smoothing steps with A and B"):
        inspect(model, variables, IMAGES, np.zeros(6, int))


def test_channels_by_activity_and_evidence_by_place() -> None:
    model, variables = network(SHARED)
    seen = jax.tree.map(np.asarray, features(model, variables, jnp.asarray(IMAGES)))
    logits = np.asarray(model.apply(variables, jnp.asarray(IMAGES)))
    where = evidence(variables, seen, 2, 1)
    assert where is not None and where.shape == (4, 4)
    bias = np.asarray(variables["params"]["head"]["linear"]["bias"])
    assert where.mean() + bias[1] == pytest.approx(logits[2, 1])
    found = most_active(seen, 2)
    assert {(c.level, c.kind) for c in found} == {
        (level, kind) for level in ("level1", "level2") for kind in "ufr"
    }
    (u,) = (c for c in found if (c.level, c.kind) == ("level2", "u"))
    activity = np.abs(u.values).mean((0, 1))
    assert (np.diff(activity) <= 0).all()
    np.testing.assert_array_equal(u.values[..., 0], seen["level2"]["u"][-1][2][..., u.numbers[0]])
