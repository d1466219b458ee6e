"""The compiled steps: chunks, parts, devices, EMA, and scoring of every image."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgnet_jax.data.augment import Augmentation, mix, normalise
from mgnet_jax.data.info import ImageSet
from mgnet_jax.data.order import Batches
from mgnet_jax.models import create
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.feed import ResidentScoring, ResidentTraining
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.scoring import Scoring
from mgnet_jax.training.state import TrainState, create_state

SCALE = {"mean": (0.4,), "std": (0.3,)}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 6, 6, 1), np.uint8)
LABELS = RNG.integers(0, 3, 37).astype(np.int32)
MODEL = create("MgNet[1,2]-[4]-B^l", 3)
OPTIMIZER = optax.sgd(0.1, 0.9)


def new_state(ema: bool = False) -> TrainState:
    return create_state(MODEL, OPTIMIZER, jax.random.key(0), (6, 6, 1), ema)


def train_step(devices: int = 1, **options: Any) -> Any:
    settings = {
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        **options,
    }
    mesh = sharding.make_mesh(jax.devices()[:devices])
    return steps.make_train_step(MODEL, OPTIMIZER, mesh, **SCALE, **settings), mesh


def one_part(chosen: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    chosen = np.asarray(chosen)
    return IMAGES[chosen], LABELS[chosen], jax.random.key(1)


@pytest.fixture(scope="module")
def chunk_of_3() -> Any:
    """Three of four steps of 8 images in one compiled call, with augmentation, on one device."""
    return run_chunk(1)


INDICES = np.arange(32).reshape(4, 1, 8)


def call(state: TrainState, step: Any, mesh: Any, count: int) -> Any:
    feed = ResidentTraining(ImageSet(IMAGES, LABELS), Batches(37, 8), mesh)
    chunk = steps.make_train_chunk(step, feed, mesh)
    arrays = *feed.whole, INDICES
    return chunk(state, Metrics.zero(), arrays, count, jax.random.key(5))


def run_chunk(devices: int) -> Any:
    step, mesh = train_step(devices, augmentation=Augmentation(crop_padding=1, flip=True))
    return call(new_state(), step, mesh, 3)


def test_a_chunk_is_its_steps_one_by_one(chunk_of_3: Any) -> None:
    step, _ = train_step(augmentation=Augmentation(crop_padding=1, flip=True))
    state, metrics = new_state(), Metrics.zero()
    for i in range(3):
        key = jax.random.fold_in(jax.random.key(5), i)
        chosen = INDICES[i]
        state, new = jax.jit(step)(state, IMAGES[chosen], LABELS[chosen], key)
        metrics = metrics + new
    chex.assert_trees_all_close((state, metrics), chunk_of_3, atol=1e-5, rtol=1e-4)
    assert int(state.step) == 3 and int(metrics.count) == 24


def test_two_devices_are_one(chunk_of_3: Any) -> None:
    """The same batch split over two devices: batch norm is of the whole batch."""
    two = run_chunk(2)
    chex.assert_trees_all_close(jax.device_get(two), jax.device_get(chunk_of_3), atol=2e-4)
    assert all(len(x.sharding.device_set) == 2 for x in jax.tree.leaves(two))


def test_the_step_is_the_gradient_of_the_mean_loss() -> None:
    state = new_state()
    images, labels, key = one_part([range(8)])
    new, metrics = jax.jit(train_step()[0])(state, images, labels, key)

    def loss(params: Any) -> jax.Array:
        logits, _ = MODEL.apply(
            {"params": params, "batch_stats": state.batch_stats},
            normalise(images[0], **SCALE),
            train=True,
            mutable=["batch_stats"],
        )
        log_p = jax.nn.log_softmax(logits)
        return -jnp.mean(log_p[jnp.arange(8), labels[0]])

    value, grads = jax.value_and_grad(loss)(state.params)
    assert metrics.summary()["loss"] == pytest.approx(float(value), rel=1e-5)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, grads)
    chex.assert_trees_all_close(new.params, expected, atol=1e-5)


def test_parts_average_their_gradients_and_chain_their_statistics() -> None:
    state, step = new_state(), jax.jit(train_step()[0])
    both, metrics = step(state, *one_part([range(8), range(8, 16)]))
    first, _ = step(state, *one_part([range(8)]))
    second, _ = step(state.replace(batch_stats=first.batch_stats), *one_part([range(8, 16)]))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first.params, second.params)
    chex.assert_trees_all_close(both.params, mean, atol=1e-6)
    chex.assert_trees_all_close(both.batch_stats, second.batch_stats, atol=1e-6)
    assert int(both.step) == 1 and int(metrics.count) == 16


def test_label_smoothing_spreads_the_target() -> None:
    state = new_state()
    images, labels, key = one_part([range(8)])
    _, metrics = jax.jit(train_step(label_smoothing=0.3)[0])(state, images, labels, key)
    logits, _ = MODEL.apply(
        state.variables, normalise(images[0], **SCALE), train=True, mutable=["batch_stats"]
    )
    log_p = jax.nn.log_softmax(logits)
    right = log_p[np.arange(8), labels[0]]
    expected = -jnp.mean(0.7 * right + 0.3 * jnp.mean(log_p, -1))
    assert metrics.summary()["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_first_steps_are_with_small_images() -> None:
    images, labels, key = one_part([range(8)])
    small, whole = (jax.jit(train_step(**o)[0]) for o in ({"small": steps.Small(3, 1)}, {}))
    state, metrics = small(new_state(), images, labels, key)
    scaled = jax.image.resize(normalise(images[0], **SCALE), (8, 3, 3, 1), "bilinear")
    logits, updated = MODEL.apply(
        new_state().variables, scaled, train=True, mutable=["batch_stats"]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[0])
    assert metrics.summary()["loss"] == pytest.approx(float(jnp.mean(losses)), rel=1e-5)
    chex.assert_trees_all_close(state.batch_stats, updated["batch_stats"], rtol=1e-4)
    now, then = (step(state, images, labels, key) for step in (small, whole))
    chex.assert_trees_all_close(now, then, rtol=1e-4, atol=1e-6)


def test_mixed_images_are_trained_on_with_the_labels_of_both() -> None:
    state = new_state()
    images, labels, key = one_part([range(8)])
    options = {"augmentation": Augmentation(mixup=9.0), "label_smoothing": 0.1}
    _, metrics = jax.jit(train_step(**options)[0])(state, images, labels, key)
    part_key = jax.random.split(key, 1)[0]
    both, share = mix(normalise(images[0], **SCALE), jax.random.fold_in(part_key, 3), 9.0, 0.0)
    logits, _ = MODEL.apply(state.variables, both, train=True, mutable=["batch_stats"])
    log_p = jax.nn.log_softmax(logits)

    def loss(labels: Any) -> jax.Array:
        return -jnp.mean(0.9 * log_p[np.arange(8), labels] + 0.1 * jnp.mean(log_p, -1))

    expected = share * loss(labels[0]) + (1 - share) * loss(labels[0][::-1])
    assert metrics.summary()["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert 0.2 < share < 0.8


def test_ema_averages_weights_and_statistics_and_is_what_is_scored() -> None:
    step = jax.jit(train_step(ema_decay=0.75)[0])
    for done, decay in ((0, 0.1), (10, 0.55), (1000, 0.75)):  # at most (1 + done) / (10 + done)
        state = new_state(ema=True).replace(step=jnp.int32(done))
        new, _ = step(state, *one_part([range(8)]))
        before = {"params": state.params, "batch_stats": state.batch_stats}
        after = {"params": new.params, "batch_stats": new.batch_stats}
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, before, after)
        chex.assert_trees_all_close(new.variables, expected, atol=1e-6)
    assert new_state().variables.keys() == {"params", "batch_stats"}


@pytest.mark.parametrize(
    ("batch_size", "devices", "flip"),
    [(1, 1, False), (10, 2, False), (37, 1, True), (64, 2, False)],
)
def test_every_image_is_scored_once_whatever_the_batch_size(
    batch_size: int, devices: int, flip: bool
) -> None:
    variables = new_state().variables
    logits = MODEL.apply(variables, normalise(IMAGES, **SCALE))
    if flip:  # the mirror image's too
        mirrored = MODEL.apply(variables, normalise(IMAGES[:, :, ::-1], **SCALE))
        logits = (logits + mirrored) / 2
    log_p = jax.nn.log_softmax(logits)
    mesh = sharding.make_mesh(jax.devices()[:devices])
    feed = ResidentScoring(ImageSet(IMAGES, LABELS), batch_size, mesh)
    score = steps.make_score(Scoring(MODEL, **SCALE, flip=flip), feed, mesh)
    metrics, middle = Metrics.zero(), feed.batches // 2
    for start, count in ((0, middle), (middle, feed.batches - middle)):
        metrics = score(variables, metrics, feed.arrays(start, count), count)
    assert int(metrics.count) == 37
    assert int(metrics.sums["accuracy"]) == int((np.argmax(logits, -1) == LABELS).sum())
    expected = -float(log_p[np.arange(37), LABELS].mean())
    assert metrics.summary()["loss"] == pytest.approx(expected, rel=1e-5)


def test_all_finite_sees_one_bad_number() -> None:
    params = new_state().params
    assert steps.all_finite(params)
    for bad in (np.inf, np.nan):
        params["level1"]["A"] = params["level1"]["A"].at[0, 0, 0, 0].set(bad)
        assert not steps.all_finite(params)


def test_flips_in_turn_are_those_of_the_epoch() -> None:
    in_turn = Augmentation(flip=True, alternate_flips=True)
    augmented, plain = (
        jax.jit(train_step(augmentation=a, steps_per_epoch=2)[0]) for a in (in_turn, Augmentation())
    )
    images, labels, key = one_part(np.arange(8)[None])
    odd = (images.astype(int).sum((2, 3, 4)) % 2)[..., None, None, None]
    for step, turned in ((0, odd == 1), (1, odd == 1), (2, odd == 0), (5, odd == 1)):
        state = new_state().replace(step=jnp.int32(step))
        mirrored = np.where(turned, images[:, :, :, ::-1], images)
        chex.assert_trees_all_close(
            augmented(state, images, labels, key),
            plain(state, mirrored, labels, key),
            atol=1e-5,
            rtol=1e-4,
        )


def test_augmentation_changes_with_the_step() -> None:
    step, mesh = train_step(augmentation=Augmentation(crop_padding=2))
    results = []
    for start in (0, 1):
        state = new_state().replace(step=jnp.int32(start))
        new, _ = call(state, step, mesh, 1)
        results.append(new.params["level1"]["A"])
    assert float(jnp.abs(results[0] - results[1]).max()) > 1e-6
