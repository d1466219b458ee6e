"""The training loop."""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgnet_jax import checkpoint, steps
from mgnet_jax.config import ConfigError, differences, to_json
from mgnet_jax.job import Job
from mgnet_jax.log import MetricsWriter, Progress, plot_curves, read_metrics, say, table
from mgnet_jax.models import MgNetSpec
from mgnet_jax.state import TrainState
from mgnet_jax.summary import mebibytes
from mgnet_jax.supervise import StopSignal


class TrainError(RuntimeError):
    """Training cannot go on; the message says where it stands and what to change."""


class Interrupted(Exception):
    """A signal stopped the run; its state was saved."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


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
            say(f"This run is finished: {workdir} has all {config.train.epochs} epochs.")
        else:
            if step:
                state = checkpoint.restore(checkpoints, step, job.abstract_state())
                say(f"Going on from step {step:,} of {workdir}.")
            else:
                state = job.initial_state()
            workdir.mkdir(parents=True, exist_ok=True)
            (workdir / "config.json").write_text(to_json(config) + "\n")
            writer = MetricsWriter(workdir, start_step=step, tensorboard=config.log.tensorboard)
            progress = Progress(job.total_steps, config.train.epochs, config.train.batch_size)
            with writer, closing(progress), StopSignal() as stop:
                _Loop(job, checkpoints, writer, progress, started).run(state, step, stop)
    history, curves = read_metrics(workdir), workdir / "curves.png"
    if step < job.total_steps or not curves.exists():
        plot_curves(history, curves, f"{spec} on {config.data.name}")
    say(f"\n{results_table(config, history)}\n")
    say(f"checkpoints, metrics.jsonl, metrics.csv and curves.png are in {workdir}")


class _Loop:
    """Chunk after chunk; while the device computes one, the one before it is reported."""

    def __init__(
        self,
        job: Job,
        checkpoints: Any,
        writer: MetricsWriter,
        progress: Progress,
        started: float,
    ):
        self.job, self.checkpoints, self.writer = job, checkpoints, writer
        self.progress, self.started = progress, started
        self.unread: tuple[int, steps.Metrics] | None = None
        self.first = True

    def run(self, state: TrainState, step: int, stop: StopSignal) -> None:
        """Trains from `step` to the last one, or until a signal."""
        job, every_steps = self.job, self.job.config.checkpoint.every_steps
        self.compile()
        while step < job.total_steps:
            begin, step = step, job.next_stop(step)
            state, metrics = job.train_steps(state, begin, step)
            self.report()
            self.unread = step, metrics
            signal, epoch_ended = stop.received, step % job.steps_per_epoch == 0
            if epoch_ended or signal or (every_steps and step % every_steps == 0):
                self.report()
                with self.progress.paused():
                    score = self.score(state, step) if epoch_ended else None
                    checkpoint.save(self.checkpoints, state, score)
            if signal and step < job.total_steps:
                raise Interrupted(
                    signal,
                    f"stopped by {signal.name} after step {step:,}, which is saved; the same "
                    f"command goes on from there",
                )

    def compile(self) -> None:
        """Compiles the chunk of steps and says what it took."""
        job, begun = self.job, time.monotonic()
        memory = job.train_chunk.memory_analysis()
        seconds = time.monotonic() - begun
        size = f", {mebibytes(memory.temp_size_in_bytes)} of working memory" if memory else ""
        count = job.mesh.devices.size
        self.progress.note(
            f"{count} {jax.devices()[0].device_kind} device{'s' * (count > 1)}, "
            f"{job.train_size:,} training images, {job.steps_per_epoch:,} steps an epoch; "
            f"compiled in {seconds:.1f} s{size}"
        )

    def report(self) -> None:
        """Shows and writes the metrics of the chunk that is not reported yet, if there is one."""
        if not self.unread:
            return
        job, (step, metrics) = self.job, self.unread
        self.unread = None
        values, seconds = metrics.summary(), time.monotonic() - self.started
        if self.first:
            self.progress.note(f"first steps done {seconds:.1f} s after the start")
            self.first = False
        if not np.isfinite(values["loss"]):
            optim = job.config.optim
            raise TrainError(
                f"the loss is {values['loss']} in the steps up to {step:,}; the newest checkpoint "
                f"is from before that. Lower config.optim.learning_rate={optim.learning_rate:g} or "
                f"raise config.optim.warmup_epochs={optim.warmup_epochs:g}, and start anew with "
                f"another --workdir."
            )
        self.progress.update(step, **values, last=step == job.total_steps)
        self.writer.write(
            "train",
            step,
            step / job.steps_per_epoch,
            learning_rate=job.schedule(step - 1),
            images_per_second=self.progress.images_per_second,
            seconds=seconds,
            **values,
        )

    def score(self, state: TrainState, step: int) -> float | None:
        """Scores the end of an epoch if it is due; gives what the best epoch is chosen by."""
        job, epoch = self.job, step // self.job.steps_per_epoch
        if epoch % job.config.eval.every_epochs and step < job.total_steps:
            return None
        scores = job.score(state)
        self.writer.write("eval", step, epoch, **scores)
        self.progress.note(_epoch_line(epoch, scores))
        return scores[_chosen_by(job.config)]


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
    if not evals:
        return "metrics.jsonl has no scores"
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
