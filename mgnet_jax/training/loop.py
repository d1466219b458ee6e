"""The training loop."""

import time
from contextlib import closing
from pathlib import Path
from signal import Signals
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgnet_jax.config import check_last_batch
from mgnet_jax.data.sets import load
from mgnet_jax.training import checkpoint, processes, steps
from mgnet_jax.training.agreement import UNREADABLE, Agreement
from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.describe import mebibytes
from mgnet_jax.training.idle import Idle
from mgnet_jax.training.job import Job
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.metrics import MetricsWriter, NoMetrics, read_metrics
from mgnet_jax.training.pace import Pace
from mgnet_jax.training.progress import Progress, say
from mgnet_jax.training.results import chosen_by, epoch_line, results_table
from mgnet_jax.training.supervise import Interrupted, StopSignal
from mgnet_jax.training.workdir import check_workdir, keep, saved_data


class TrainError(RuntimeError):
    """Training cannot go on; the message says where it stands and what to change."""

    exit_code = 1


def train(config: ConfigDict, workdir: Path, started: float) -> None:
    """Trains, or goes on with, the run in workdir until its last epoch.

    Leaves checkpoints, metrics.jsonl, metrics.csv, curves.png, config.json and data.json in
    workdir.

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
    processes.check_shared(workdir)
    first = processes.is_first()
    with StopSignal() as stop:
        job = Job(with_decoder(config, workdir), load(config.data))
        check_last_batch(config, job.data.info, job.mesh.devices.size)
        with checkpoint.open_checkpoints(workdir, config.checkpoint.keep) as checkpoints:
            step = checkpoint.find(checkpoints) or 0
            score, sums = checkpoint.notes(checkpoints, step) if step else (None, {})
            finished = step == job.total_steps and score is not None
            if finished:
                say(f"This run is finished: {workdir} has all {config.train.epochs} epochs.")
            else:
                if not step and (workdir / "metrics.jsonl").exists():
                    say(f"There is no checkpoint in {workdir}: its metrics are written anew.")
                decoder = job.cut.decoder if job.train_feed.streamed else ""
                keep(config, job.data, decoder, workdir, write=first)
                agreement = Agreement(job.mesh, lambda: stop.received or 0)
                loop = _Loop(job, checkpoints, workdir, step, started, agreement)
                loop.run(job.no_metrics(sums), scored=score is not None)
    if not first:
        return
    history, curves = read_metrics(workdir), workdir / "curves.png"
    if not finished or not curves.exists():
        plot_curves(history, curves, f"{job.model.spec} on {config.data.name}")
    say(f"\n{results_table(config, history)}\n")
    say(f"checkpoints, metrics.jsonl, metrics.csv and curves.png are in {workdir}")


def with_decoder(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The configuration, in which a run that goes on has the decoder that it began with."""
    kept = saved_data(workdir) if checkpoint.exist(workdir) else None
    if kept is None or not kept.decoder or config.data.decoder != "auto":
        return config
    config = config.copy_and_resolve_references()
    config.data.decoder = kept.decoder
    return config


class _Loop:
    """Call after call; while the device computes one, the one before it is reported."""

    def __init__(
        self,
        job: Job,
        checkpoints: Any,
        workdir: Path,
        step: int,
        started: float,
        agreement: Agreement,
    ):
        config, self.agreement = job.config, agreement
        self.job, self.checkpoints, self.step, self.started = job, checkpoints, step, started
        if step:
            self.state = checkpoint.restore(checkpoints, step, job.abstract_state)
            say(f"Going on from step {step:,} of {workdir}.")
        else:
            self.state = job.initial_state()
        self.writer = (MetricsWriter if processes.is_first() else NoMetrics)(
            workdir,
            start_step=step,
            further=job.columns,
            tensorboard=config.log.tensorboard,
        )
        mean_batch = sum(job.batches.sizes) / job.steps_per_epoch
        self.progress = Progress(job.total_steps, config.train.epochs, mean_batch)
        self.pace, self.idle = Pace(), Idle()
        self.finished = False
        self.unread: tuple[int, int, Metrics] | None = None
        self.first = True

    def run(self, metrics: Metrics, scored: bool) -> None:
        """Trains to the last step, or until a signal.

        Args:
          metrics: of the steps since the last record.
          scored: whether an epoch that ended here has been scored.
        """
        self.metrics = metrics
        with (
            self.writer,
            closing(self.progress),
            closing(self.idle),
            closing(self.job.train_feed),
        ):
            self.compile()
            if self.step and self.due and not scored:
                self.score_and_save()
            while self.step < self.job.total_steps and not self.agreement.halt:
                self.train()
            if self.agreement.halt and not self.finished:
                signal = Signals(self.agreement.halt)
                where = f"after step {self.step:,}, which is saved" if self.step else "at the start"
                raise Interrupted(
                    signal,
                    f"stopped by {signal.name} {where}; the same command goes on from there",
                )

    def train(self) -> None:
        """Trains until there is something to save: an epoch's end, a checkpoint, an end."""
        every = self.job.config.checkpoint.every_steps
        try:
            self.advance()
            while not (
                self.agreement.halt or self.epoch_ended or (every and self.step % every == 0)
            ):
                self.advance()
        except UNREADABLE:
            self.report()
            self.save_for_later()
            raise
        self.report()
        self.score_and_save()

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last one of an epoch."""
        return self.step % self.job.steps_per_epoch == 0

    @property
    def due(self) -> bool:
        """Whether the state is to be scored."""
        epoch, every = self.step // self.job.steps_per_epoch, self.job.config.eval.every_epochs
        return self.epoch_ended and (epoch % every == 0 or self.step == self.job.total_steps)

    def advance(self) -> None:
        """Starts the next call, and meanwhile reports the one before."""
        job, begin = self.job, self.step
        end = job.next_stop(begin, self.agreement.steps(self.pace.steps))
        agreement, wanted, so_far = self.agreement, self.pace.steps, self.metrics
        state, metrics = job.train_steps(self.state, so_far, begin, end, agreement, wanted)
        self.state = state
        feed = job.train_feed
        if feed.streamed:
            self.idle.dispatched(feed.asked, feed.came, metrics.count)
        self.report()
        self.step, self.unread = end, (begin, end, metrics)
        self.metrics = job.no_metrics() if job.ends_record(end) else metrics
        if (lost := agreement.read()) is not None:
            self.step, self.unread, self.metrics = lost, None, metrics
            raise agreement.failure()

    def compile(self) -> None:
        """Compiles the steps and says what it took."""
        job, begun = self.job, time.monotonic()
        memory = job.train_chunks[job.batches.sizes[0]].memory_analysis()
        seconds = time.monotonic() - begun
        last = job.batches.sizes[-1]
        apart = last < job.batches.sizes[0]
        smaller = f", the last of {last} images compiled apart" if apart else ""
        size = f", {mebibytes(memory.temp_size_in_bytes)} of working memory" if memory else ""
        count = job.mesh.devices.size
        self.progress.note(
            f"{count} {jax.devices()[0].device_kind} device{'s' * (count > 1)}, "
            f"{job.train_size:,} training images, {job.steps_per_epoch:,} steps an epoch{smaller}; "
            f"compiled in {seconds:.1f} s{size}{job.train_feed.note}"
        )
        processes.wait("compiled")
        self.pace.begin()
        self.waited, self.waited_from = 0.0, time.monotonic()

    def report(self) -> None:
        """Shows the metrics of the call that is not reported yet, and writes a record that ends."""
        if not self.unread:
            return
        job, (begin, step, metrics) = self.job, self.unread
        self.unread = None
        values = metrics.summary()
        self.pace.ended(step - begin)
        seconds = time.monotonic() - self.started
        if self.first:
            self.progress.note(f"first steps done {seconds:.1f} s after the start")
            self.first = False
        if not np.isfinite(values["loss"]):
            raise self.diverged(f"the loss is {values['loss']}", step)
        waiting, last = self.waiting(), step == job.total_steps
        loss, accuracy = values["loss"], values["accuracy"]
        self.progress.update(step, loss, accuracy, waiting=waiting.get("waiting"), last=last)
        if not job.ends_record(step):
            return
        self.waited, self.waited_from = self.idle.seconds, time.monotonic()
        self.writer.write(
            "train",
            step,
            step / job.steps_per_epoch,
            learning_rate=job.learning_rates[step - 1],
            images_per_second=self.progress.images_per_second,
            seconds=seconds,
            **waiting,
            **values,
        )

    def waiting(self) -> dict[str, float]:
        """The share of the time since the last record that the device had to wait for images."""
        if not self.job.train_feed.streamed:
            return {}
        waited, passed = self.idle.seconds - self.waited, time.monotonic() - self.waited_from
        return {"waiting": waited / max(passed, 1e-9)}

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
        """Scores the state if that is due, unless a signal comes first, and saves it."""
        scores, begun = None, time.monotonic()
        with self.progress.paused():
            self.check_finite()
            if self.due:
                try:
                    scores = self.job.score(self.state, self.agreement)
                except UNREADABLE:
                    self.save_for_later()
                    raise
            if scores is not None:
                epoch = self.step // self.job.steps_per_epoch
                self.writer.write("eval", self.step, epoch, **scores)
                self.progress.note(epoch_line(epoch, scores))
                self.finished = self.step == self.job.total_steps
            self.save(None if scores is None else scores[chosen_by(self.job.config)])
        self.pace.begin()
        self.waited_from += time.monotonic() - begun

    def save_for_later(self) -> None:
        """Saves the state before an error of the input, which shall cost no work."""
        if self.step and self.step not in self.checkpoints.all_steps():
            self.check_finite()
            self.save()

    def check_finite(self) -> None:
        """Raises TrainError if the weights are not finite."""
        if not steps.all_finite((self.state.params, self.state.batch_stats)):
            raise self.diverged("the weights are no longer finite", self.step)

    def save(self, score: float | None = None) -> None:
        """Saves the state and the sums of a record that has not ended."""
        processes.alive()
        kept = {} if self.job.ends_record(self.step) else self.metrics.kept()
        checkpoint.save(self.checkpoints, self.state, score, kept)
        processes.alive()
