"""MgNets with classical accelerations: their names, their forms, what they are at the start."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mgnet_jax
from mgnet_jax.analysis import linear
from mgnet_jax.analysis.variants import doubled, variants
from mgnet_jax.models import ModelError, SpecError, features, parse
from mgnet_jax.models.pytorch import names
from mgnet_jax.models.relaxation import Relaxation

NAMES = (
    "MgNet[2,2]-[4]-B^l-damped",
    "MgNet[2,3]-[4]-B^{l,i}-damped(0.8)",
    "MgNet[3,2]-[(4,5),(5,6)]-B^l-two-step",
    "MgNet[3,1]-[4]-B^l-two-step(1.1,0.25)",
    "MgNet[3,2]-[4]-B^{l,i}-chebyshev(0.5,2)",
    "MgNet[2,2]-[4]-poly(3)",
    "MgNet[2,2]-[4]-poly(1)-two-step",
)
PLAIN = "MgNet[2,2]-[4]-B^l"
IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 1))


def made(name: str, **options: Any) -> tuple[Any, Any]:
    """A network in float64 and its first variables, the batch norms' scales random."""
    model = mgnet_jax.create(name, 3, dtype="float64", **options)
    tree = jax.jit(model.init)(jax.random.key(0), jnp.asarray(IMAGES))
    rng = np.random.default_rng(1)

    def other(path: Any, x: jax.Array) -> jax.Array:
        random = path[-1].key in ("scale", "var", "relaxation", "B")
        return x + jnp.asarray(rng.uniform(-0.3, 0.3, x.shape)) if random else x

    return model, jax.tree_util.tree_map_with_path(other, tree)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_and_printed(name: str) -> None:
    spec = parse(name)
    assert spec.canonical == name
    assert parse(spec.canonical) == spec
    assert spec.narrowed(1).canonical == name
    assert parse(name.replace("-", " - ").replace("two - step", "two-step")) == spec
    assert spec != parse(PLAIN)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MgNet[2]-[4]-B^l-dampd", "expected one of damped, two-step, chebyshev"),
        ("MgNet[2]-[4]-B^l-damped()", "expected a number of damped"),
        ("MgNet[2]-[4]-B^l-damped(1,2)", r"damped takes 0 or 1 numbers, not \[1.0, 2.0\]"),
        ("MgNet[2]-[4]-B^l-chebyshev", "expected '\\(' and the numbers of chebyshev"),
        ("MgNet[2]-[4]-B^l-chebyshev(2,1)", "takes bounds of eigenvalues with 0 < a < b"),
        ("MgNet[2]-[4]-B^l-damped(1e999)", "must be finite"),
        ("MgNet[2]-[4]-poly(0)", "expected a whole number of degree >= 1"),
        ("MgNet[2]-[4]-poly", "expected '\\(' and the degree of the polynomial"),
        (
            "MgNet[2]-[(4,5)]-poly(2)",
            "as many channels of u as of f on each grid; here are 4 and 5",
        ),
    ],
)
def test_wrong_names_are_messages(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(name)


def test_an_unknown_kind_is_a_message() -> None:
    with pytest.raises(SpecError, match="relaxation 'sor' is not one of plain, damped"):
        Relaxation("sor")


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_one_network(name: str) -> None:
    with jax.enable_x64(True):
        dual, variables = made(name)
        direct = mgnet_jax.create(name, 3, dtype="float64", form="direct")
        for train in (False, True):
            a, b = (
                jax.jit(lambda v, x, m=m, t=train: m.apply(v, x, t, mutable=["batch_stats"]))(
                    variables, jnp.asarray(IMAGES)
                )
                for m in (dual, direct)
            )
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-9), a, b)


@pytest.mark.parametrize("suffix", ["damped", "two-step", "damped(1)", "two-step(1,0)"])
def test_learned_ones_start_as_the_plain_network(suffix: str) -> None:
    images = jnp.asarray(IMAGES, jnp.float32)
    plain, other = (mgnet_jax.create(n, 3) for n in (PLAIN, f"{PLAIN}-{suffix}"))
    variables = plain.init(jax.random.key(0), images)
    theirs = other.init(jax.random.key(0), images)
    np.testing.assert_allclose(
        plain.apply(variables, images), other.apply(theirs, images), atol=1e-6
    )
    learned = mgnet_jax.count(other, (8, 8, 1)).parameters
    each = {"damped": 1, "two-step": 2}.get(suffix, 0)
    assert learned == mgnet_jax.count(plain, (8, 8, 1)).parameters + 4 * each


def test_learned_numbers_get_gradients_of_their_own() -> None:
    model, images = mgnet_jax.create(f"{PLAIN}-two-step", 3), jnp.asarray(IMAGES, jnp.float32)
    variables = model.init(jax.random.key(0), images)

    def loss(params: Any) -> jax.Array:
        both = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, _ = model.apply(both, images, True, mutable=["batch_stats"])
        return jnp.sum(logits[:, 0] ** 2)

    grads = jax.jit(jax.grad(loss))(variables["params"])
    found = np.asarray(grads["level1"]["step"]["relaxation"])
    assert found.shape == (2, 2)
    assert found[0, 1] == 0  # nothing was added before the first step
    assert (found[[0, 1, 1], [0, 0, 1]] != 0).all()


def test_chebyshevs_numbers_do_not_depend_on_how_many_follow() -> None:
    relaxation = Relaxation("chebyshev", (0.5, 2))
    longer, shorter = relaxation.weights(6), relaxation.weights(2)
    assert longer is not None and shorter is not None
    np.testing.assert_array_equal(longer[:2], shorter)
    assert longer[0, 0] == pytest.approx(1 / 1.25) and longer[0, 1] == 0


def test_their_steps_can_be_looked_into() -> None:
    with jax.enable_x64(True):
        for name in (f"{PLAIN}-two-step(1.1,0.25)", "MgNet[2,2]-[4]-poly(2)"):
            model, variables = made(name, form="direct")
            seen = features(model, variables, jnp.asarray(IMAGES[:1]))
            found = linear.linearise(model, variables, seen, "level1", 1)
            twice = 1 + ("two-step" in name)
            assert found.shape == (1, 8, 8, 4 * twice)
            size = int(np.prod(found.shape))
            columns = [found.apply(jnp.asarray(e.reshape(found.shape))) for e in np.eye(size)]
            matrix = np.stack([np.asarray(c).ravel() for c in columns], -1)
            expected = np.abs(np.linalg.eigvals(matrix)).max()
            assert abs(linear.spectral_radius(found) - expected) < 1e-6
        # the error of u and of what was added go on together: u' = u + added', added' = ...
        e = jnp.zeros((1, 8, 8, 8)).at[..., 4:].set(1.0)
        model, variables = made(f"{PLAIN}-two-step(1.1,0.25)", form="direct")
        seen = features(model, variables, jnp.asarray(IMAGES[:1]))
        after = linear.linearise(model, variables, seen, "level1", 1).apply(e)
        np.testing.assert_allclose(after, 0.25, atol=1e-12)


def test_variants_of_those_that_can_be_put_out_of_action() -> None:
    with jax.enable_x64(True):
        model, variables = made(f"{PLAIN}-two-step")
        run = jax.jit(doubled(model, variables)[0].apply)
        expected = model.apply(variables, jnp.asarray(IMAGES))
        same = [
            v for v in variants(model, variables) if (v.change, v.steps) == ("steps", v.trained)
        ]
        assert len(same) == 2
        for v in same:
            np.testing.assert_allclose(run(v.variables, jnp.asarray(IMAGES)), expected, atol=1e-9)
        model, variables = made(f"{PLAIN}-two-step(1,0.5)")
        assert not list(variants(model, variables))


def test_pytorch_has_no_names_for_them() -> None:
    with pytest.raises(ModelError, match="has no names in PyTorch"):
        names(parse(f"{PLAIN}-damped"), "cifar")


def test_a_polynomial_replaces_B() -> None:
    spec = parse("MgNet[2,2]-[4]-poly(3)")
    assert dataclasses.replace(spec, degree=None).canonical == PLAIN
    model = mgnet_jax.create(spec, 3)
    params = jax.eval_shape(lambda k: model.init(k, jnp.zeros((1, 8, 8, 1))), jax.random.key(0))[
        "params"
    ]
    assert params["level1"]["B"].shape == (4,)
    costs, plain = (mgnet_jax.count(mgnet_jax.create(n, 3), (8, 8, 1)) for n in (spec, PLAIN))
    assert costs.macs > plain.macs and costs.parameters < plain.parameters
