"""What a configuration asks for, made: the network, its data on the device, the compiled steps."""

import functools
import operator
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, make_model
from mgnet_jax.data import pipeline, sources
from mgnet_jax.training import checkpoint, optim, sharding, steps
from mgnet_jax.training.state import TrainState, create_state


class Job:
    """All that a configuration asks for, made once: network, data on the device, compiled steps.

    Args:
      config: a validated configuration.
      mesh: devices; default: all.

    Attributes:
      steps_per_epoch, total_steps: optimiser steps.
      train_size: images trained on, those held out left out.
      batch_sizes: images of each step of an epoch, of which only the last may have fewer.
      learning_rates: one a step, float (total_steps,).

    Raises:
      DataError: the data set cannot be read.
      ConfigError: it has fewer images than the configuration needs.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh | None = None):
        self.config = config
        self.mesh = mesh or sharding.make_mesh()
        info = sources.INFO[config.data.name]
        self.model = make_model(config)
        self.data = sources.load(config.data.name, config.data.dir, config.data.source)
        train, self.validation = self.data.train, None
        if config.data.validation:
            train, self.validation = sources.hold_out(train, config.data.validation, config.seed)
        self.train_size = len(train)
        if self.train_size < config.train.batch_size:
            raise ConfigError(
                f"config.train.batch_size={config.train.batch_size} is more than the "
                f"{self.train_size} training images in config.data.dir={config.data.dir!r}"
            )
        self.batch_sizes = pipeline.batch_sizes(
            self.train_size, config.train.batch_size, config.data.last_batch
        )
        self.steps_per_epoch = len(self.batch_sizes)
        self.total_steps = config.train.epochs * self.steps_per_epoch
        schedule = optim.make_schedule(config.optim, config.train.epochs, self.steps_per_epoch)
        self.optimizer = optim.make_optimizer(config.optim, schedule)
        # on the host, so that reporting one does not wait for the device
        self.learning_rates = np.asarray(jax.vmap(schedule)(np.arange(self.total_steps)))
        calls_end = config.log.every_steps, config.checkpoint.every_steps, self.steps_per_epoch
        self._stops = [n for n in calls_end if n]
        self.init_rng, self.step_rng = jax.random.split(jax.random.key(config.seed))
        self.copies = sharding.replicated(self.mesh)
        self._train_images = train
        mean, std = config.data.mean or info.mean, config.data.std or info.std
        self._scale = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}

    def _create_state(self, rng: jax.Array) -> TrainState:
        shape, ema = self.data.info.image_shape, self.config.train.ema_decay > 0
        return create_state(self.model, self.optimizer, rng, shape, ema)

    def initial_state(self) -> TrainState:
        """The state at step 0, on the mesh."""
        return jax.jit(self._create_state, out_shardings=self.copies)(self.init_rng)

    def abstract_state(self) -> Any:
        """Shapes, types and shardings of the state, to restore a checkpoint into."""
        return checkpoint.abstract(jax.eval_shape(self._create_state, self.init_rng), self.copies)

    @cached_property
    def train_set(self) -> tuple[jax.Array, jax.Array]:
        """Images and labels to train on, on the device."""
        return pipeline.to_device(self._train_images, self.copies)

    @cached_property
    def scored_sets(self) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Images and labels to score, on the device."""
        sets = {"test": self.data.test}
        if self.validation is not None:
            sets["validation"] = self.validation
        return {name: pipeline.to_device(images, self.copies) for name, images in sets.items()}

    @cached_property
    def train_chunks(self) -> dict[int, Any]:
        """The compiled chunk of steps for each batch size, see `steps.make_train_chunk`."""
        train, data = self.config.train, self.config.data
        step = steps.make_train_step(
            self.model,
            self.optimizer,
            self.mesh,
            crop_padding=data.crop_padding,
            flip=data.flip,
            label_smoothing=train.label_smoothing,
            ema_decay=train.ema_decay,
            **self._scale,
        )
        chunk = steps.make_train_chunk(step, self.mesh)
        compiled = {}
        for batch_size in {*self.batch_sizes}:
            indices = self.indices(self.batch_sizes.index(batch_size), 1)
            arguments = (*self.train_set, indices, 0, self.step_rng)
            compiled[batch_size] = chunk.lower(self.abstract_state(), *arguments).compile()
        return compiled

    @cached_property
    def _score(self) -> Any:
        batch_size = self.config.eval.batch_size
        return steps.make_score(self.model, self.mesh, batch_size=batch_size, **self._scale)

    def indices(self, start: int, count: int) -> jax.Array:
        """The images of `count` steps from `start`: (steps of a call, parts, n), 0 beyond."""
        config = self.config
        rows = pipeline.batch_indices(
            self.train_size,
            config.train.batch_size,
            config.seed,
            start,
            count,
            config.data.last_batch,
        )
        padded = np.zeros((min(self._stops), rows.shape[1]), np.int32)
        padded[:count] = rows
        parts = padded.reshape(len(padded), config.train.accumulate, -1)
        return jax.device_put(parts, sharding.batch(self.mesh, axis=2))

    def train_steps(
        self, state: TrainState, begin: int, end: int
    ) -> tuple[TrainState, steps.Metrics]:
        """Runs the steps begin .. end - 1 of one epoch; the old state is used up.

        They are one compiled call, or two if the last of them has a smaller batch.
        """
        batch_size, last = self.batch_sizes[0], self.batch_sizes[(end - 1) % self.steps_per_epoch]
        full = end if last == batch_size else end - 1
        metrics = []
        for size, start, stop in ((batch_size, begin, full), (last, full, end)):
            if start < stop:
                count, indices = stop - start, self.indices(start, stop - start)
                state, new = self.train_chunks[size](
                    state, *self.train_set, indices, count, self.step_rng
                )
                metrics.append(new)
        return state, functools.reduce(operator.add, metrics)

    def score(self, state: TrainState) -> dict[str, float]:
        """Loss and accuracy (0 to 1) on every scored set, all of its images."""
        variables = state.variables
        sums = {name: self._score(variables, *images) for name, images in self.scored_sets.items()}
        return {
            f"{name}_{key}": value
            for name, metrics in sums.items()
            for key, value in metrics.summary().items()
        }

    def next_stop(self, step: int) -> int:
        """Where `train_steps` from `step` ends: a record, an epoch's end or a checkpoint."""
        return min(step - step % n + n for n in self._stops)
