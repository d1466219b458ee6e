"""What a configuration asks for, made: the network, its batches, the compiled steps."""

import dataclasses
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, make_model, trained_on
from mgnet_jax.data import splits
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.data.cut import Cut
from mgnet_jax.data.order import Batches
from mgnet_jax.data.photographs import codec
from mgnet_jax.data.sources import DataSet
from mgnet_jax.data.stream import Reading
from mgnet_jax.training import feed, measures, optim, sharding, steps
from mgnet_jax.training.agreement import Agreement
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.pace import Pace
from mgnet_jax.training.scoring import Scoring
from mgnet_jax.training.state import TrainState, create_state

RATES = 1024  # learning rates computed at a time


class Job:
    """All that a configuration asks for, made once and when needed: network, batches, steps.

    Args:
      config: a validated configuration.
      data: its data set; what is not needed of it may be None.
      mesh: devices; default: all.

    Attributes:
      steps_per_epoch, total_steps: optimiser steps.
      train_size: images trained on, those held out left out.
      batches: how they make batches.
      skips: whether steps that are not finite are left out.

    Raises:
      ConfigError: there are fewer images than the configuration needs, or no such measure.
      DataError: what is to read photographs is not installed.
    """

    def __init__(self, config: ConfigDict, data: DataSet, mesh: Mesh | None = None):
        self.config, self.data = config, data
        self.mesh = mesh or sharding.make_mesh()
        self.model = make_model(config, data.info)
        self.train_size = trained_on(config.data, data.info)
        if self.train_size < config.train.batch_size:
            raise ConfigError(
                f"config.train.batch_size={config.train.batch_size} is more than the "
                f"{self.train_size} training images in config.data.dir={config.data.dir!r}"
            )
        self.batches = Batches(
            self.train_size,
            config.train.batch_size,
            config.train.accumulate,
            config.data.last_batch,
            config.seed,
        )
        self.steps_per_epoch = self.batches.steps
        self.total_steps = config.train.epochs * self.steps_per_epoch
        schedule = optim.make_schedule(config.optim, config.train.epochs, self.steps_per_epoch)
        self.optimizer = optim.make_optimizer(config.optim, schedule, config.init.freeze)
        steps_of = lambda block: np.arange(block * RATES, (block + 1) * RATES)  # noqa: E731
        self._rates = lru_cache(1)(lambda block: np.asarray(jax.vmap(schedule)(steps_of(block))))
        watched = ",grad_norm" if config.train.on_nonfinite != "stop" else ""
        self.measures = measures.chosen(config.log.measures + watched)
        self.skips = config.train.on_nonfinite == "skip"
        self.init_rng, self._step_rng = jax.random.split(jax.random.key(config.seed))
        self.step_rng = self._step_rng
        mean, std = config.data.mean or data.info.mean, config.data.std or data.info.std
        self.scale: Any = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
        flip, shift = config.eval.flip, config.eval.shift
        self.scoring = Scoring(self.model, **self.scale, flip=flip, shift=shift)

    def _create_state(self, rng: jax.Array) -> TrainState:
        shape, ema = self.data.info.image_shape, self.config.train.ema_decay > 0
        return create_state(self.model, self.optimizer, rng, shape, ema)

    def initial_state(self) -> TrainState:
        """The state at step 0, on the mesh."""
        return jax.jit(self._create_state, out_shardings=self.state_sharding)(self.init_rng)

    def draw_anew(self, times: int) -> None:
        """Takes other random numbers in the steps, those after going back so many times."""
        key = self._step_rng
        self.step_rng = jax.random.fold_in(key, times) if times else key

    def learning_rate(self, step: int) -> float:
        """That of a step, from 0; on the host: reporting one waits for no device."""
        return self._rates(step // RATES)[step % RATES]

    @cached_property
    def state_shapes(self) -> Any:
        """Shapes and types of the state."""
        return jax.eval_shape(self._create_state, self.init_rng)

    @cached_property
    def abstract_state(self) -> Any:
        """Shapes, types and shardings of the state, to restore a checkpoint into."""
        return sharding.abstract_state(self.state_shapes, self.mesh, self.config.train.sharding)

    @property
    def state_sharding(self) -> Any:
        """How the state lies on the mesh."""
        return jax.tree.map(lambda x: x.sharding, self.abstract_state)

    def no_metrics(self, saved: dict[str, float] | None = None) -> Metrics:
        """The metrics of no images yet, or those saved with a checkpoint if they fit."""
        copies = sharding.replicated(self.mesh)
        metrics = self._no_metrics.restored(saved) if saved else self._no_metrics
        return jax.tree.map(lambda x: sharding.place(np.asarray(x), copies), metrics)

    @cached_property
    def _no_metrics(self) -> Metrics:
        """On the host."""
        return jax.tree.map(np.asarray, Metrics.zero(self.measures, self.skips))

    @cached_property
    def reading(self) -> Reading:
        """How photographs are read."""
        data = self.config.data
        places, devices = sharding.own_places(self.mesh), self.mesh.devices.size
        return Reading(data.workers, data.threads, data.prefetch, places, devices)

    @cached_property
    def cut(self) -> Cut:
        """How photographs become images."""
        data, shape = self.config.data, self.data.info.image_shape
        decoder = codec.find_decoder(data.decoder)
        return Cut(shape, data.crop_area, data.shorter_side or round(shape[0] * 8 / 7), decoder)

    @cached_property
    def train_split(self) -> tuple[Any, Any]:
        """The images to train on, and those held out (or None)."""
        data, seed = self.config.data, self.config.seed
        kept, held_out = splits.split(self.data.train, data.validation, seed)
        if data.train_images and data.train_images < len(kept):
            _, kept = splits.split(kept, data.train_images, seed)
        return kept, held_out

    @cached_property
    def train_feed(self) -> feed.Feed:
        """The batches to train on."""
        arguments = self.batches, self.cut, self.reading, self.mesh
        return feed.training_feed(self.train_split[0], *arguments)

    @cached_property
    def scored_feeds(self) -> dict[str, feed.Feed]:
        """The batches to score, of the test images and of those held out, if any."""
        sets = {"test": self.data.test}
        if self.config.data.validation and self.data.train is not None:
            sets["validation"] = self.train_split[1]
        devices = self.mesh.devices.size
        size = -(-self.config.eval.batch_size // devices) * devices
        # processes would be started for every score anew
        reading = dataclasses.replace(self.reading, workers=0)
        arguments = size, self.cut, reading, self.mesh
        return {name: feed.scoring_feed(images, *arguments) for name, images in sets.items()}

    @cached_property
    def train_chunks(self) -> dict[int, Any]:
        """The compiled steps for each batch size, see `steps.make_train_chunk`."""
        train, data = self.config.train, self.config.data
        step = steps.make_train_step(
            self.model,
            self.optimizer,
            self.mesh,
            augmentation=Augmentation.of(data),
            steps_per_epoch=self.steps_per_epoch,
            small=steps.Small(data.small_size, data.small_epochs * self.steps_per_epoch),
            label_smoothing=train.label_smoothing,
            ema_decay=train.ema_decay,
            skips=self.skips,
            measures=self.measures,
            state_sharding=self.state_sharding,
            **self.scale,
        )
        chunk = steps.make_train_chunk(step, self.train_feed, self.mesh, self.state_sharding)
        state, metrics = self.abstract_state, self.no_metrics()
        compiled = {}
        for size in {*self.batches.sizes}:
            arrays = self.train_feed.abstract(size)
            compiled[size] = chunk.lower(
                state, metrics, arrays, np.int32(0), self.step_rng
            ).compile()
        return compiled

    def train_steps(
        self,
        state: TrainState,
        metrics: Metrics,
        begin: int,
        end: int,
        agreement: Agreement | None = None,
        wanted: int = 1,
    ) -> tuple[TrainState, Metrics]:
        """Runs the steps begin .. end - 1 of one epoch; the old state is used up.

        They are one compiled call, or two if the last of them has a smaller batch. Theirs are added
        to the metrics. With several processes their `agreement` may be that none of it is done; it
        is told how many steps are wanted for the next call.
        """
        agreement = agreement or Agreement(self.mesh)
        for size, start, stop in self.batches.same_size(begin, end):
            arrays = agreement.arrays(self.train_feed, start, stop - start, size)
            agreed = agreement.count(stop - start, wanted, start, metrics)
            state, metrics = self.train_chunks[size](state, metrics, arrays, agreed, self.step_rng)
        return state, metrics

    @property
    def columns(self) -> list[str]:
        """The names of what a run records besides what all do."""
        names = ["waiting"] if self.train_feed.streamed else []
        names += ["skipped"] if self.skips else []
        for m in self.measures:
            names.append(m.name)
            names += [f"{split}_{m.name}" for split in self.scored_feeds if m.of == "image"]
        return names

    def ends_record(self, step: int) -> bool:
        """Whether a record of the metrics ends with that step: an epoch's end is always one."""
        return step % self.config.log.every_steps == 0 or step % self.steps_per_epoch == 0

    def next_stop(self, step: int, most: int) -> int:
        """Where a call from `step` ends, of at most that many steps.

        It does not go beyond a record, an epoch or a checkpoint.
        """
        ends = self.config.log.every_steps, self.config.checkpoint.every_steps, self.steps_per_epoch
        most = min(most, self.train_feed.most_steps)
        return min(step + most, *(step - step % n + n for n in ends if n))

    @cached_property
    def _scores(self) -> dict[str, Any]:
        return {
            name: steps.make_score(self.scoring, split, self.mesh, measures=self.measures)
            for name, split in self.scored_feeds.items()
        }

    def score(
        self, state: TrainState, agreement: Agreement | None = None
    ) -> dict[str, float] | None:
        """Loss, accuracy (0 to 1) and measures of images on every scored set, all of its images.

        Args:
          state: what to score.
          agreement: of the processes; None is returned if they are told to stop.

        Raises:
          DataError, OSError, WorkerError: images cannot be read, in any process.
        """
        scores: dict[str, float] = {}
        for name, split in self.scored_feeds.items():
            agreed = agreement.anew() if agreement else Agreement(self.mesh)
            metrics = self._score(self._scores[name], split, state.variables, agreed)
            if metrics is None:
                return None
            if int(metrics.count) != split.size:
                raise AssertionError(f"{int(metrics.count)} of {split.size} {name} images scored")
            of_images = {"loss", "accuracy", *(m.name for m in self.measures if m.of == "image")}
            scores |= {f"{name}_{k}": v for k, v in metrics.summary().items() if k in of_images}
        return scores

    def _score(
        self, call: Any, split: feed.Feed, variables: Any, agreement: Agreement
    ) -> Metrics | None:
        """Metrics of a scored set; one call is under way while the next one's batches are made."""
        metrics, pace, first, running = self.no_metrics(), Pace(), 0, 0
        try:
            while first < split.batches:
                if agreement.halt:
                    return None
                steps = agreement.steps(pace.steps)
                count = min(steps, split.most_steps, split.batches - first)
                before, arrays = metrics, agreement.arrays(split, first, count, split.batch_size)
                agreed = agreement.count(count, pace.steps, first, metrics)
                metrics = call(variables, metrics, arrays, agreed)
                if running:
                    jax.block_until_ready(before.count)
                    pace.ended(running)
                first, running = first + count, count
                if agreement.read() is not None:
                    raise agreement.failure()
        finally:
            split.close()
        return metrics
