"""The training loop."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgnet_jax.config import check_last_batch, to_json
from mgnet_jax.training import checkpoint, steps
from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.describe import mebibytes
from mgnet_jax.training.files import replace_file
from mgnet_jax.training.job import Job
from mgnet_jax.training.metrics import MetricsWriter, read_metrics
from mgnet_jax.training.progress import Progress, say
from mgnet_jax.training.results import chosen_by, epoch_line, results_table
from mgnet_jax.training.supervise import StopSignal
from mgnet_jax.training.workdir import CONFIG, check_workdir


class TrainError(RuntimeError):
    """Training cannot go on; the message says where it stands and what to change."""

    exit_code = 1


class Interrupted(Exception):
    """A signal stopped the run; its state was saved."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal


def train(config: ConfigDict, workdir: Path, started: float) -> None:
    """Trains, or goes on with, the run in workdir until its last epoch.

    Leaves checkpoints, metrics.jsonl, metrics.csv, curves.png and config.json in workdir.

    Args:
      config: a validated configuration.
      workdir: folder of the run.
      started: time.monotonic() at the start of the command.

    Raises:
      ConfigError: workdir holds a run with another configuration.
      DataError: the data set cannot be read.
      Interrupted: SIGINT or SIGTERM came; the state was saved.
      TrainError: the loss or the weights are no longer finite.
    """
    check_workdir(config, workdir)
    with StopSignal() as stop:
        job = Job(config)
        check_last_batch(config, job.train_size, job.mesh.devices.size)
        with checkpoint.open_checkpoints(workdir, config.checkpoint.keep) as checkpoints:
            step = checkpoint.find(checkpoints) or 0
            if step == job.total_steps:
                say(f"This run is finished: {workdir} has all {config.train.epochs} epochs.")
            else:
                if not step and (workdir / "metrics.jsonl").exists():
                    say(f"There is no checkpoint in {workdir}: its metrics are written anew.")
                loop = _Loop(job, checkpoints, workdir, step, started)
                replace_file(workdir / CONFIG, to_json(config).encode())
                loop.run(stop)
    history, curves = read_metrics(workdir), workdir / "curves.png"
    if step < job.total_steps or not curves.exists():
        plot_curves(history, curves, f"{job.model.spec} on {config.data.name}")
    say(f"\n{results_table(config, history)}\n")
    say(f"checkpoints, metrics.jsonl, metrics.csv and curves.png are in {workdir}")


class _Loop:
    """Chunk after chunk; while the device computes one, the one before it is reported."""

    def __init__(self, job: Job, checkpoints: Any, workdir: Path, step: int, started: float):
        config = job.config
        self.job, self.checkpoints, self.step, self.started = job, checkpoints, step, started
        if step:
            self.state = checkpoint.restore(checkpoints, step, job.abstract_state())
            say(f"Going on from step {step:,} of {workdir}.")
        else:
            self.state = job.initial_state()
        self.writer = MetricsWriter(workdir, start_step=step, tensorboard=config.log.tensorboard)
        mean_batch = sum(job.batch_sizes) / len(job.batch_sizes)
        self.progress = Progress(job.total_steps, config.train.epochs, mean_batch)
        self.unread: tuple[int, steps.Metrics] | None = None
        self.first = True

    def run(self, stop: StopSignal) -> None:
        """Trains to the last step, or until a signal."""
        with self.writer, closing(self.progress):
            self.compile()
            while self.step < self.job.total_steps:
                self.advance()
                signal, every = stop.received, self.job.config.checkpoint.every_steps
                if self.epoch_ended or signal or (every and self.step % every == 0):
                    self.report()
                    self.score_and_save()
                if signal and self.step < self.job.total_steps:
                    raise Interrupted(
                        signal,
                        f"stopped by {signal.name} after step {self.step:,}, which is saved; the "
                        f"same command goes on from there",
                    )

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last one of an epoch."""
        return self.step % self.job.steps_per_epoch == 0

    def advance(self) -> None:
        """Starts the next chunk, and meanwhile reports the one before."""
        end = self.job.next_stop(self.step)
        self.state, metrics = self.job.train_steps(self.state, self.step, end)
        self.report()
        self.step, self.unread = end, (end, metrics)

    def compile(self) -> None:
        """Compiles the chunks of steps and says what it took."""
        job, begun = self.job, time.monotonic()
        memory = job.train_chunks[job.batch_sizes[0]].memory_analysis()
        seconds = time.monotonic() - begun
        last = job.batch_sizes[-1]
        smaller = f", the last of {last} images compiled apart" if last < job.batch_sizes[0] else ""
        size = f", {mebibytes(memory.temp_size_in_bytes)} of working memory" if memory else ""
        count = job.mesh.devices.size
        self.progress.note(
            f"{count} {jax.devices()[0].device_kind} device{'s' * (count > 1)}, "
            f"{job.train_size:,} training images, {job.steps_per_epoch:,} steps an epoch{smaller}; "
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
            raise self.diverged(f"the loss is {values['loss']}", step)
        self.progress.update(step, **values, last=step == job.total_steps)
        self.writer.write(
            "train",
            step,
            step / job.steps_per_epoch,
            learning_rate=job.learning_rates[step - 1],
            images_per_second=self.progress.images_per_second,
            seconds=seconds,
            **values,
        )

    def diverged(self, what: str, step: int) -> TrainError:
        """The error of a run that has nothing to go on with."""
        optim = self.job.config.optim
        return TrainError(
            f"{what} in the steps up to {step:,}; nothing of that was saved. Lower "
            f"config.optim.learning_rate={optim.learning_rate:g} or raise "
            f"config.optim.warmup_epochs={optim.warmup_epochs:g}, and start anew with another "
            f"--workdir."
        )

    def score_and_save(self) -> None:
        """Scores the end of an epoch if that is due, and saves the state."""
        job, score = self.job, None
        epoch, every = self.step // job.steps_per_epoch, job.config.eval.every_epochs
        with self.progress.paused():
            if not steps.all_finite((self.state.params, self.state.batch_stats)):
                raise self.diverged("the weights are no longer finite", self.step)
            if self.epoch_ended and (epoch % every == 0 or self.step == job.total_steps):
                scores = job.score(self.state)
                score = scores[chosen_by(job.config)]
                self.writer.write("eval", self.step, epoch, **scores)
                self.progress.note(epoch_line(epoch, scores))
            checkpoint.save(self.checkpoints, self.state, score)
