"""The training loop."""

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgnet_jax import checkpoint, optim, sharding, steps
from mgnet_jax.config import ConfigError, differences, to_json
from mgnet_jax.data import pipeline, sources
from mgnet_jax.log import MetricsWriter, Progress, plot_curves, read_metrics, say, table
from mgnet_jax.models import MgNetSpec, create
from mgnet_jax.state import TrainState, create_state
from mgnet_jax.summary import mebibytes
from mgnet_jax.supervise import StopSignal


class TrainError(RuntimeError):
    """Training cannot go on; the message says where it stands and what to change."""


class Interrupted(TrainError):
    """A signal stopped the run; its state was saved."""


class Job:
    """All that a configuration asks for, made once: network, data on the device, compiled steps.

    Attributes:
      steps_per_epoch, total_steps: optimiser steps.
      data: the data set, without the images that are held out.
    """

    def __init__(self, config: ConfigDict, spec: MgNetSpec):
        self.config, self.spec = config, spec
        self.mesh = sharding.make_mesh()
        info = sources.INFO[config.data.name]
        options = {
            k: v for k, v in config.model.items() if k not in ("spec", "nu", "channels", "B")
        }
        self.model = create(spec, info.num_classes, **options)
        self.data = sources.load(config.data.name, config.data.dir, config.data.source)
        train, self.validation = self.data.train, None
        if config.data.validation:
            train, self.validation = sources.hold_out(train, config.data.validation, config.seed)
        self.train_size = len(train)
        self.steps_per_epoch = self.train_size // config.train.batch_size
        if not self.steps_per_epoch:
            raise ConfigError(
                f"config.train.batch_size={config.train.batch_size} is more than the "
                f"{self.train_size} training images in config.data.dir={config.data.dir!r}"
            )
        self.total_steps = config.train.epochs * self.steps_per_epoch
        self.schedule = optim.make_schedule(config.optim, config.train.epochs, self.steps_per_epoch)
        self.optimizer = optim.make_optimizer(config.optim, self.schedule)
        self.init_rng, self.step_rng = jax.random.split(jax.random.key(config.seed))
        self.copies = sharding.replicated(self.mesh)
        self._train_images = train
        self._scale = {"mean": info.mean, "std": info.std}

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
    def train_chunk(self) -> Any:
        """The compiled chunk of steps, see `steps.make_train_chunk`."""
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
        return steps.make_train_chunk(step, self.mesh).lower(
            self.abstract_state(), *self.train_set, self.indices(0, 1), 0, self.step_rng
        ).compile()  # fmt: skip

    @cached_property
    def _score(self) -> Any:
        batch_size = self.config.eval.batch_size
        return steps.make_score(self.model, self.mesh, batch_size=batch_size, **self._scale)

    def indices(self, start: int, count: int) -> jax.Array:
        """The images of `count` steps from `start`: (log.every_steps, parts, n), filled with 0."""
        config = self.config
        rows = pipeline.batch_indices(
            self.train_size, config.train.batch_size, config.seed, start, count
        )
        padded = np.zeros((config.log.every_steps, config.train.batch_size), np.int32)
        padded[:count] = rows
        parts = padded.reshape(len(padded), config.train.accumulate, -1)
        return jax.device_put(parts, sharding.batch(self.mesh, axis=2))

    def score(self, state: TrainState) -> dict[str, float]:
        """Loss and accuracy (0 to 1) on every scored set, all of its images."""
        sums = {name: self._score(state.variables, *images) for name, images in
                self.scored_sets.items()}  # fmt: skip
        return {
            f"{name}_{key}": value
            for name, metrics in sums.items()
            for key, value in metrics.summary().items()
        }

    def next_stop(self, step: int) -> int:
        """Where a compiled call from `step` ends: a record, an epoch's end or a checkpoint."""
        every = (
            self.config.log.every_steps,
            self.steps_per_epoch,
            self.config.checkpoint.every_steps,
        )
        return min(step - step % n + n for n in every if n)


def train(config: ConfigDict, spec: MgNetSpec, workdir: Path, started: float) -> None:
    """Trains, or goes on with, the run in workdir until its last epoch.

    Leaves checkpoints, metrics.jsonl, metrics.csv, curves.png and config.json in workdir.

    Args:
      config: a validated configuration.
      spec: its network, from `validate`.
      workdir: folder of the run.
      started: time.monotonic() at the start of the command.

    Raises:
      ConfigError: workdir holds a run with another configuration.
      DataError: the data set cannot be read.
      Interrupted: SIGINT or SIGTERM came; the state was saved.
      TrainError: the loss is no longer finite.
    """
    check_workdir(config, workdir)
    job = Job(config, spec)
    with checkpoint.open_checkpoints(workdir, config.checkpoint.keep) as checkpoints:
        step = checkpoint.find(checkpoints) or 0
        if step == job.total_steps:
            say(f"\nThis run is finished: {workdir} has all {config.train.epochs} epochs.\n")
            say(results_table(config, read_metrics(workdir)))
            return
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(to_json(config) + "\n")
        if step:
            state = checkpoint.restore(checkpoints, step, job.abstract_state())
            say(f"Going on from step {step:,} (epoch {step / job.steps_per_epoch:g}) of {workdir}.")
        else:
            state = job.initial_state()
        writer = MetricsWriter(workdir, start_step=step, tensorboard=config.log.tensorboard)
        with writer, StopSignal() as stop:
            _run(job, state, step, checkpoints, writer, stop, started)
        history = read_metrics(workdir)
        plot_curves(history, workdir / "curves.png", f"{spec} on {config.data.name}")
        say(f"\n{results_table(config, history)}\n")
        say(f"checkpoints, metrics.jsonl, metrics.csv and curves.png are in {workdir}")


def _run(
    job: Job,
    state: TrainState,
    step: int,
    checkpoints: Any,
    writer: MetricsWriter,
    stop: StopSignal,
    started: float,
) -> None:
    """Runs from `step` to the end; the device computes a chunk while the one before is reported."""
    config, per_epoch = job.config, job.steps_per_epoch
    progress = Progress(job.total_steps, config.train.epochs, config.train.batch_size)
    _compile(job, progress)
    first, unread = step, None
    while step < job.total_steps:
        end = job.next_stop(step)
        state, metrics = job.train_chunk(
            state, *job.train_set, job.indices(step, end - step), end - step, job.step_rng
        )
        if unread:
            _report(job, progress, writer, *unread, started=started)
        step, unread = end, (end, metrics)
        if step - first <= config.log.every_steps:
            jax.block_until_ready(metrics)
            progress.note(f"first {step - first} steps done {time.monotonic() - started:.1f} s "
                          f"after the start")  # fmt: skip
        epoch, within = divmod(step, per_epoch)
        ended, last = within == 0, step == job.total_steps
        every_steps = config.checkpoint.every_steps
        if ended or stop.received or (every_steps and step % every_steps == 0):
            _report(job, progress, writer, *unread, started=started, last=last)
            unread, score = None, None
            with progress.paused():
                if ended and (epoch % config.eval.every_epochs == 0 or last):
                    scores = job.score(state)
                    writer.write("eval", step, epoch, **scores)
                    score = scores[_chosen_by(config)]
                    progress.note(_epoch_line(epoch, scores))
                checkpoint.save(checkpoints, state, score)
        if stop.received and not last:
            raise Interrupted(
                f"stopped by {stop.received.name} after step {step:,}, which is saved; the same "
                f"command goes on from there"
            )


def _compile(job: Job, progress: Progress) -> None:
    begun = time.monotonic()
    memory = job.train_chunk.memory_analysis()
    seconds = time.monotonic() - begun
    size = f", {mebibytes(memory.temp_size_in_bytes)} of working memory" if memory else ""
    devices = job.mesh.devices.size
    progress.note(
        f"{devices} {jax.devices()[0].device_kind} device{'s' * (devices > 1)}, {job.train_size:,} "
        f"training images, {job.steps_per_epoch:,} steps an epoch; compiled in {seconds:.1f} s{size}"
    )


def _report(
    job: Job,
    progress: Progress,
    writer: MetricsWriter,
    step: int,
    metrics: steps.Metrics,
    *,
    started: float,
    last: bool = False,
) -> None:
    """Shows and writes the metrics of the steps that ended at `step`."""
    values, epoch = metrics.summary(), step / job.steps_per_epoch
    if not np.isfinite(values["loss"]):
        raise TrainError(
            f"the loss is {values['loss']} in the steps up to {step:,}; the newest checkpoint is "
            f"from before that. Lower config.optim.learning_rate="
            f"{job.config.optim.learning_rate:g} or raise config.optim.warmup_epochs="
            f"{job.config.optim.warmup_epochs:g}, and start anew with another --workdir."
        )
    progress.update(step, epoch, values["loss"], values["accuracy"], last=last)
    writer.write(
        "train",
        step,
        epoch,
        learning_rate=job.schedule(step - 1),
        images_per_second=progress.images_per_second,
        seconds=time.monotonic() - started,
        **values,
    )


def _epoch_line(epoch: int, scores: Mapping[str, float]) -> str:
    names = [name.removesuffix("_accuracy") for name in scores if name.endswith("_accuracy")]
    return f"epoch {epoch:3d}  " + "  ".join(
        f"{name} acc {100 * scores[f'{name}_accuracy']:.2f} % loss {scores[f'{name}_loss']:.4f}"
        for name in names
    )


def _chosen_by(config: ConfigDict) -> str:
    """The score that chooses the best epoch."""
    return "validation_accuracy" if config.data.validation else "test_accuracy"


def results_table(config: ConfigDict, history: list[dict[str, Any]]) -> str:
    """The last epoch's and the best epoch's scores, told apart.

    Where images are held out, they choose the best epoch; without, the test set does, as in the
    paper's tables, which makes its accuracy there an optimistic one. Of equal epochs the later one
    counts as best.
    """
    evals = [record for record in history if record["kind"] == "eval"]
    chosen_by = _chosen_by(config)
    best = max(evals, key=lambda record: (record[chosen_by], record["step"]))
    how = "held-out images" if config.data.validation else "the test set itself"
    rows: list[dict[str, object]] = []
    for title, record in (("last epoch", evals[-1]), (f"best epoch, chosen on {how}", best)):
        row: dict[str, object] = {"": title, "epoch": f"{record['epoch']:g}"}
        for split in ("validation", "test"):
            if f"{split}_accuracy" in record:
                row[f"{split} accuracy"] = f"{100 * record[f'{split}_accuracy']:.2f} %"
                row[f"{split} loss"] = f"{record[f'{split}_loss']:.4f}"
        rows.append(row)
    return table(rows)


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError if workdir holds a run with another configuration."""
    saved = workdir / "config.json"
    if saved.exists() and (changed := differences(saved.read_text(), config)):
        raise ConfigError(
            f"{workdir} holds a run with another configuration: {'; '.join(changed)}. "
            f"Give another --workdir, or the old values."
        )
