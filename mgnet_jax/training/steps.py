"""The compiled functions of training and scoring. Pure: all that they need comes in as arguments.

Images come as uint8 and are augmented and normalised here, on the device.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from mgnet_jax.data.augment import augment, normalise
from mgnet_jax.training import sharding
from mgnet_jax.training.state import TrainState


@flax.struct.dataclass
class Metrics:
    """Sums over images: of the loss, of the right answers, and their number."""

    loss_sum: jax.Array
    correct: jax.Array
    count: jax.Array

    @classmethod
    def zero(cls) -> "Metrics":
        """No images yet."""
        return cls(jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def summary(self) -> dict[str, float]:
        """Mean loss and accuracy (0 to 1); waits for the device."""
        count = max(int(self.count), 1)
        return {"loss": float(self.loss_sum) / count, "accuracy": int(self.correct) / count}


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether no number in a tree is infinite or NaN."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def measure(losses: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Metrics:
    """Metrics of one batch; images whose mask is False do not count."""
    right = (jnp.argmax(logits, -1) == labels) & mask
    return Metrics(
        jnp.sum(jnp.where(mask, losses, 0), dtype=jnp.float32),
        jnp.sum(right, dtype=jnp.int32),
        jnp.sum(mask, dtype=jnp.int32),
    )


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop_padding: int,
    flip: bool,
    label_smoothing: float,
    ema_decay: float,
) -> Callable[[TrainState, jax.Array, jax.Array, jax.Array], tuple[TrainState, Metrics]]:
    """One optimiser step.

    The returned function takes the state, images uint8 (parts, n, H, W, C), labels int32
    (parts, n) and a random key. The gradients of the parts, computed one after the other, are
    averaged; batch norm sees one part at a time. The metrics are of the batch as it was trained
    on, before the step. The averaged weights have decay min(ema_decay, (1 + step) / (10 + step)),
    so that they forget the initial weights in short runs too.
    """

    def loss_of(
        params: Any, batch_stats: Any, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updated = model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
        losses = optax.softmax_cross_entropy(logits, targets)
        metrics = measure(losses, logits, labels, jnp.ones_like(labels, bool))
        return jnp.mean(losses), (updated.get("batch_stats", {}), metrics)

    def train_step(
        state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        parts = labels.shape[0]

        def one_part(carry: Any, part: Any) -> tuple[Any, None]:
            batch_stats, grads, metrics = carry
            part_images, part_labels, part_key = part
            part_images = augment(part_images, part_key, crop_padding, flip)
            part_images = jax.lax.with_sharding_constraint(part_images, sharding.batch(mesh))
            part_images = normalise(part_images, mean, std)
            dropout_key = jax.random.fold_in(part_key, 2)  # augment has 0 and 1, by split
            new_grads, (batch_stats, part_metrics) = jax.grad(loss_of, has_aux=True)(
                state.params, batch_stats, part_images, part_labels, dropout_key
            )
            grads = jax.tree.map(jnp.add, grads, new_grads)
            return (batch_stats, grads, metrics + part_metrics), None

        zero = jax.tree.map(jnp.zeros_like, state.params)
        (batch_stats, grads, metrics), _ = jax.lax.scan(
            one_part,
            (state.batch_stats, zero, Metrics.zero()),
            (images, labels, jax.random.split(key, parts)),
            unroll=parts == 1,
        )
        grads = jax.tree.map(lambda g: g / parts, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            new = {"params": params, "batch_stats": batch_stats}
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(new, ema, 1 - decay)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return train_step


def make_train_chunk(train_step: Callable, mesh: Mesh) -> Any:
    """Many optimiser steps in one compiled call, for a data set that lies on the device.

    The returned function takes the state (donated), the data set's images and labels, indices
    int32 (steps, parts, n), how many of these steps to run, and the run's random key. It gives the
    new state and the metrics of all images trained on.
    """

    def train_chunk(
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        indices: jax.Array,
        count: jax.Array,
        key: jax.Array,
    ) -> tuple[TrainState, Metrics]:
        def one_step(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            chosen = indices[i]
            step_key = jax.random.fold_in(key, state.step)
            state, new = train_step(state, images[chosen], labels[chosen], step_key)
            return state, metrics + new

        return jax.lax.fori_loop(0, count, one_step, (state, Metrics.zero()))

    same = sharding.replicated(mesh)
    return jax.jit(
        train_chunk,
        in_shardings=(same, same, same, sharding.batch(mesh, axis=2), same, same),
        out_shardings=same,
        donate_argnums=0,
    )


def make_score(
    model: nn.Module,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int,
) -> Any:
    """Scores every image of a data set that lies on the device, in one compiled call.

    The returned function takes variables, images uint8 (N, H, W, C) and labels int32 (N,). The last
    batch is filled up, and what fills it does not count: the result is that of all N images,
    whatever the batch size, which is rounded up to a multiple of the devices.
    """
    batch_size = -(-batch_size // mesh.devices.size) * mesh.devices.size

    def score(variables: Mapping[str, Any], images: jax.Array, labels: jax.Array) -> Metrics:
        size = labels.shape[0]

        def one_batch(i: jax.Array, metrics: Metrics) -> Metrics:
            places = i * batch_size + jnp.arange(batch_size)
            chosen, mask = jnp.minimum(places, size - 1), places < size
            batch = jax.lax.with_sharding_constraint(images[chosen], sharding.batch(mesh))
            logits: Any = model.apply(variables, normalise(batch, mean, std), train=False)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
            return metrics + measure(losses, logits, labels[chosen], mask)

        return jax.lax.fori_loop(0, -(-size // batch_size), one_batch, Metrics.zero())

    same = sharding.replicated(mesh)
    return jax.jit(score, in_shardings=(same, same, same), out_shardings=same)
