"""The compiled functions of training and scoring. Pure: all that they need comes in as arguments.

Images come as uint8 and are augmented and normalised here, on the device.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from mgnet_jax.data.augment import Augmentation, normalise
from mgnet_jax.training import sharding
from mgnet_jax.training.feed import Feed
from mgnet_jax.training.measures import Measure, Metrics, measure
from mgnet_jax.training.scoring import Scoring
from mgnet_jax.training.state import TrainState

NO_AUGMENTATION = Augmentation()


class Small(NamedTuple):
    """The first `steps` are with images scaled to `size` x `size` pixels, for less work; 0: none.

    Progressive resizing, as of Howard (fast.ai, 2018) and Tan and Le (2021).
    """

    size: int
    steps: int

    def at_first(self, step: jax.Array, function: Callable, images: jax.Array) -> Any:
        """`function` of images (N, H, W, C), scaled or not; `step` counts from 0."""
        if not self.steps:
            return function(images)
        shape = (len(images), self.size, self.size, images.shape[-1])

        def scaled(images: jax.Array) -> Any:
            return function(jax.image.resize(images, shape, "bilinear"))

        return jax.lax.cond(step < self.steps, scaled, function, images)


NO_SMALL = Small(0, 0)


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether no number in a tree is infinite or NaN."""
    numbers = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in numbers]))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    label_smoothing: float,
    ema_decay: float,
    augmentation: Augmentation = NO_AUGMENTATION,
    steps_per_epoch: int = 1,
    small: Small = NO_SMALL,
    skips: bool = False,
    measures: tuple[Measure, ...] = (),
    state_sharding: Any = None,
) -> Callable[[TrainState, jax.Array, jax.Array, jax.Array], tuple[TrainState, Metrics]]:
    """One optimiser step.

    The returned function takes the state, images uint8 (parts, n, H, W, C), labels int32
    (parts, n) and a random key. The gradients of the parts, computed one after the other, are
    averaged; batch norm sees one part at a time. The metrics are of the batch as it was trained
    on, before the step; the accuracy is by each image's own label, mixed or not. The averaged
    weights have decay min(ema_decay, (1 + step) / (10 + step)), so that they forget the initial
    weights in short runs too. A step whose numbers are not finite is left out if it `skips` such.
    The first steps may be with `small` images; the augmentation knows the epoch.

    A state in parts (`state_sharding`, see `sharding.of_state`) is gathered for the gradients, and
    each device updates its own part with its part of them.
    """

    def whole(params: Any) -> Any:
        if state_sharding is None:
            return params
        return jax.lax.with_sharding_constraint(params, sharding.replicated(mesh))

    def in_parts(params: Any) -> Any:
        if state_sharding is None:
            return params
        return jax.lax.with_sharding_constraint(params, state_sharding.params)

    def loss_of(
        params: Any,
        batch_stats: Any,
        images: jax.Array,
        labels: jax.Array,
        own_share: jax.Array | None,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
        if own_share is not None:  # the rest is of the image that it is mixed with
            targets = own_share * targets + (1 - own_share) * targets[::-1]
        losses = optax.softmax_cross_entropy(logits, targets)
        metrics = measure(measures, losses, logits, labels, jnp.ones_like(labels, bool))
        return jnp.mean(losses), (updated.get("batch_stats", {}), metrics)

    def train_step(
        state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        parts = labels.shape[0]
        params, epoch = whole(state.params), state.step // steps_per_epoch

        def one_part(carry: Any, part: Any) -> tuple[Any, None]:
            batch_stats, grads, metrics = carry
            part_images, part_labels, part_key = part
            part_images = augmentation.of_pixels(part_images, part_key, epoch)
            part_images = jax.lax.with_sharding_constraint(part_images, sharding.batch(mesh))
            part_images = normalise(part_images, mean, std)
            part_images, own_share = augmentation.of_normalised(part_images, part_key)
            dropout_key = jax.random.fold_in(part_key, 2)

            def gradients(images: jax.Array) -> Any:
                return jax.grad(loss_of, has_aux=True)(
                    params, batch_stats, images, part_labels, own_share, dropout_key
                )

            new_grads, (batch_stats, part_metrics) = small.at_first(
                state.step, gradients, part_images
            )
            grads = jax.tree.map(jnp.add, grads, in_parts(new_grads))
            return (batch_stats, grads, metrics + part_metrics), None

        zero = in_parts(jax.tree.map(jnp.zeros_like, state.params))
        (batch_stats, grads, metrics), _ = jax.lax.scan(
            one_part,
            (state.batch_stats, zero, Metrics.zero(measures)),
            (images, labels, jax.random.split(key, parts)),
            unroll=parts == 1,
        )
        grads = jax.tree.map(lambda g: g / parts, grads)
        metrics = metrics.of_steps(measures, state.params, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            new = {"params": params, "batch_stats": batch_stats}
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(new, ema, 1 - decay)
        none = jnp.zeros_like(state.skipped)
        new_state = TrainState(state.step + 1, params, batch_stats, opt_state, none, ema)
        if not skips:
            return new_state, metrics
        return _unless_nonfinite(state, new_state, metrics, grads)

    return train_step


def _unless_nonfinite(
    before: Any, after: Any, metrics: Metrics, grads: Any
) -> tuple[TrainState, Metrics]:
    """The state after a step, or the one before it if the step has numbers that are not finite.

    What counts steps (the state, the schedule) goes on all the same.
    """
    finite = all_finite((metrics.sums, grads, after.params, after.batch_stats))
    in_a_row = jnp.where(finite, 0, before.skipped + 1)

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(finite, new, old) if jnp.issubdtype(new.dtype, jnp.floating) else new

    state = jax.tree.map(choose, after, before)
    return state.replace(skipped=in_a_row), metrics.left_out(finite, in_a_row)


def make_train_chunk(
    train_step: Callable, feed: Feed, mesh: Mesh, state_sharding: Any = None
) -> Any:
    """Many optimiser steps in one compiled call; `state_sharding` as in `sharding.of_state`.

    The returned function takes the state (donated), the metrics so far, what the feed gives, how
    many of its steps to run, and the run's random key. It gives the new state and the metrics with
    those of all images trained on.
    """

    def train_chunk(
        state: TrainState, metrics: Metrics, arrays: Any, count: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        def one_step(i: Any, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            step_key = jax.random.fold_in(key, state.step)
            state, new = train_step(state, *feed.batch(arrays, i), step_key)
            return state, metrics + new

        if not feed.looped:
            return one_step(0, (state, metrics))
        return jax.lax.fori_loop(0, count, one_step, (state, metrics))

    same = sharding.replicated(mesh)
    state = same if state_sharding is None else state_sharding
    return jax.jit(
        train_chunk,
        in_shardings=(state, same, feed.shardings, same, same),
        out_shardings=(state, same),
        donate_argnums=0,
    )


def make_score(
    scoring: Scoring, feed: Feed, mesh: Mesh, *, measures: tuple[Measure, ...] = ()
) -> Any:
    """Scores many batches in one compiled call.

    The returned function takes variables, the metrics so far, what the feed gives, and how many of
    its batches to score. Images of label -1 do not count.
    """
    same = sharding.replicated(mesh)

    def score(
        variables: Mapping[str, Any], metrics: Metrics, arrays: Any, count: jax.Array
    ) -> Metrics:
        variables = jax.lax.with_sharding_constraint(variables, same)

        def one_batch(i: Any, metrics: Metrics) -> Metrics:
            images, labels = feed.batch(arrays, i)
            images = jax.lax.with_sharding_constraint(images, sharding.batch(mesh))
            logits = scoring.logits(variables, images)
            mask = labels >= 0
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return metrics + measure(measures, losses, logits, labels, mask)

        if not feed.looped:
            return one_batch(0, metrics)
        return jax.lax.fori_loop(0, count, one_batch, metrics)

    in_shardings = (None, same, feed.shardings, same)  # variables as they lie
    return jax.jit(score, in_shardings=in_shardings, out_shardings=same)
