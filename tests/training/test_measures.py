"""What is measured besides the loss: means over images and over steps, kept exactly."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgnet_jax.config import ConfigError
from mgnet_jax.models import create
from mgnet_jax.training import measures, sharding, steps
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.state import create_state

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(30, 9)).astype(np.float32)
LABELS = RNG.integers(0, 9, 30).astype(np.int32)


def test_top5_counts_labels_among_the_five_highest() -> None:
    ranks = np.argsort(np.argsort(-LOGITS, axis=-1), axis=-1)[np.arange(30), LABELS]
    mask = np.arange(30) < 20
    labels = jnp.where(mask, LABELS, -1)
    top5 = measures.chosen("top5")
    metrics = measures.measure(top5, jnp.ones(30), LOGITS, labels, labels >= 0)
    assert int(metrics.count) == 20
    assert metrics.summary()["top5"] == pytest.approx((ranks[:20] < 5).mean())
    assert metrics.summary()["accuracy"] == pytest.approx((ranks[:20] == 0).mean())


@pytest.mark.parametrize("parts", [1, 2])
def test_norms_are_of_the_step_as_it_was_taken(parts: int) -> None:
    """With momentum and decay off, the gradient is the change of the weights over the rate."""
    model, optimizer = create("MgNet[1]-[4]-B^l", 3), optax.sgd(0.1)
    state = create_state(model, optimizer, jax.random.key(0), (6, 6, 1))
    chosen = measures.chosen("grad_norm, param_norm,top5,grad_norm")
    assert [m.name for m in chosen] == ["grad_norm", "param_norm", "top5"]
    step = steps.make_train_step(
        model,
        optimizer,
        sharding.make_mesh(jax.devices()[:1]),
        mean=(0.0,),
        std=(1.0,),
        label_smoothing=0.0,
        ema_decay=0.0,
        measures=chosen,
    )
    images = RNG.integers(0, 256, (parts, 8 // parts, 6, 6, 1), np.uint8)
    labels = RNG.integers(0, 3, (parts, 8 // parts)).astype(np.int32)
    new, metrics = jax.jit(step)(state, images, labels, jax.random.key(1))
    change = jax.tree.map(lambda a, b: (a - b) / 0.1, state.params, new.params)
    values = metrics.summary()
    assert values["grad_norm"] == pytest.approx(float(optax.tree.norm(change)), rel=1e-4)
    assert values["param_norm"] == pytest.approx(float(optax.tree.norm(state.params)), rel=1e-5)
    assert (metrics + metrics).summary()["grad_norm"] == pytest.approx(values["grad_norm"])


def test_sums_are_kept_exactly_and_only_for_the_same_measures() -> None:
    chosen = measures.chosen("top5")
    third = measures.measure(chosen, jnp.full(30, 0.1), LOGITS, LABELS, jnp.ones(30, bool))
    kept = json.loads(json.dumps(third.kept()))
    restored = Metrics.zero(chosen).restored(kept)
    assert jax.tree.leaves(restored) == jax.tree.leaves(third)
    assert int(Metrics.zero().restored(kept).count) == 0
    assert int(Metrics.zero(chosen).restored({}).count) == 0


def test_an_unknown_measure_is_answered_with_the_known_ones() -> None:
    assert measures.chosen("") == ()
    with pytest.raises(ConfigError, match=r"log.measures='a,top5'.*no 'a'.*top5, grad_norm"):
        measures.chosen("a,top5")


@pytest.mark.parametrize(
    ("name", "of", "compute", "words"),
    [
        ("seconds", "image", None, "cannot be called 'seconds'"),
        ("top5", "image", None, "cannot be called 'top5'"),
        ("test_x", "image", None, "does not begin with test_"),
        ("no name", "image", None, "cannot be called 'no name'"),
        ("x", "batch", None, "is of 'batch'"),
        ("x", "image", lambda logits, labels: logits.sum(), r"gives the shape \(\).*each image"),
        ("x", "image", lambda logits, labels: logits @ logits, "fails with"),
    ],
)
def test_a_measure_that_cannot_be_is_refused_at_once(
    name: str, of: str, compute: Any, words: str
) -> None:
    one = measures.Measure(name, of, compute or (lambda *_: jnp.zeros(3)), "")
    try:
        with pytest.raises(ConfigError, match=words):
            measures.register(one)
            measures.chosen(name)
    finally:
        measures.MEASURES.pop("x", None)
