"""The training loop."""

import contextlib
from contextlib import closing
from pathlib import Path
from signal import Signals

import jax
from ml_collections import ConfigDict

from mgnet_jax.config import check_last_batch
from mgnet_jax.data.sets import load
from mgnet_jax.training import processes, steps, watch
from mgnet_jax.training.agreement import UNREADABLE, Agreement
from mgnet_jax.training.checkpoint import Checkpoints, exist
from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.files import writing
from mgnet_jax.training.job import Job
from mgnet_jax.training.lock import locked
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.metrics import (
    MetricsWriter,
    NoMetrics,
    not_written,
    put_wrong_aside,
    read_metrics,
)
from mgnet_jax.training.progress import say
from mgnet_jax.training.report import Report
from mgnet_jax.training.results import chosen_by, epoch_line, results_table
from mgnet_jax.training.saving import Saver
from mgnet_jax.training.supervise import Interrupted, StopSignal
from mgnet_jax.training.workdir import begin, check_workdir, keep, saved_data

FILES = "checkpoints", "metrics.jsonl", "metrics.csv", "curves.png"
"""What a run leaves, besides what it keeps of itself."""


def train(config: ConfigDict, workdir: Path, started: float) -> None:
    """Trains, or goes on with, the run in workdir until its last epoch.

    Leaves `FILES`, run.json, config.json and data.json in workdir.

    Args:
      config: a validated configuration.
      workdir: folder of the run.
      started: time.monotonic() at the start of the command.

    Raises:
      CheckpointError: no checkpoint there is whole, or they are of another run or network.
      ConfigError: workdir holds a run with another configuration.
      DataError: the data set cannot be read.
      Interrupted: SIGINT or SIGTERM came; the state was saved.
      LockError: another trainer works there.
      SaveError: checkpoints cannot be saved.
      TrainError: the loss or the weights are no longer finite.
      WriteError: workdir cannot be written.
    """
    check_workdir(config, workdir)
    processes.check_shared(workdir)
    with StopSignal() as stop, contextlib.ExitStack() as opened:
        job = Job(with_decoder(config, workdir), load(config.data))
        check_last_batch(config, job.data.info, job.mesh.devices.size)
        if not processes.several():
            opened.callback(watch.end)
        keeping = config.checkpoint.keep, config.checkpoint.background
        with writing(workdir):
            lock = opened.enter_context(locked(workdir))
            checkpoints = opened.enter_context(Checkpoints(workdir, *keeping))
            saved = checkpoints.newest()
        decoder = job.cut.decoder if job.train_feed.streamed else ""
        run = begin(config, job.data, decoder, workdir)
        with writing(workdir):
            keep(run, workdir)
        finished = False
        if saved and saved.step == job.total_steps and saved.score is not None:
            finished = True
            say(f"This run is finished: {workdir} has all {config.train.epochs} epochs.")
            with writing(workdir):
                mend(job, workdir, saved)
        else:
            with writing(workdir):
                writer = open_metrics(job, workdir, saved)
            report = opened.enter_context(Report(job, writer, started))
            saver = Saver(
                checkpoints,
                run,
                job.mesh.devices.size,
                writer,
                lock,
                config.checkpoint.retry_minutes,
                report.progress.note,
            )
            agreement = Agreement(job.mesh, lambda: stop.received or 0)
            _Loop(job, saved, saver, report, agreement).run()
    if processes.is_first():
        with writing(workdir):
            conclude(job, workdir, finished)


def open_metrics(
    job: Job, workdir: Path, saved: Manifest | None, finished: bool = False
) -> MetricsWriter:
    """The writer of a run's records, which has those up to the checkpoint."""
    options = {
        "history": saved.history if saved else "",
        "further": job.columns,
        "start_step": saved.step if saved else 0,
        "tensorboard": job.config.log.tensorboard,
    }
    if not processes.is_first():
        return NoMetrics(workdir, **options)
    if saved is None and (workdir / "metrics.jsonl").exists():
        say(f"There is no checkpoint in {workdir}: its metrics are written anew.")
    if wrong := put_wrong_aside(workdir, options["history"], finished):
        say(wrong)
    return MetricsWriter(workdir, **options)


def mend(job: Job, workdir: Path, saved: Manifest) -> None:
    """Writes the records of a finished run again if they are not those of its checkpoint."""
    if processes.is_first() and (wrong := not_written(workdir, saved.history)):
        say(f"The metrics of {workdir} are written again: {wrong}.")
        open_metrics(job, workdir, saved, finished=True).close()


def conclude(job: Job, workdir: Path, finished_before: bool) -> None:
    """Plots the curves, and prints the scores and what is where."""
    history, curves = read_metrics(workdir), workdir / "curves.png"
    if not finished_before or not curves.exists():
        plot_curves(history, curves, f"{job.model.spec} on {job.config.data.name}")
    say(f"\n{results_table(job.config, history)}\n")
    *there, last = [name for name in FILES if (workdir / name).exists()]
    say(f"{', '.join(there)} and {last} are in {workdir}")


def with_decoder(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The configuration, in which a run that goes on has the decoder that it began with."""
    kept = saved_data(workdir) if exist(workdir) else None
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
        saved: Manifest | None,
        saver: Saver,
        report: Report,
        agreement: Agreement,
    ):
        self.job, self.saver, self.report, self.agreement = job, saver, report, agreement
        if saved:
            self.state = saver.checkpoints.restore(saved, job.abstract_state)
            devices = job.mesh.devices.size
            before = f" (saved with {saved.devices}, now {devices})"
            changed = f"{before} devices" if devices != saved.devices else ""
            say(f"Going on from step {saved.step:,} of {saver.checkpoints.folder.parent}{changed}.")
        else:
            self.state = jax.block_until_ready(job.initial_state())
        self.step = saved.step if saved else 0
        self.metrics = job.no_metrics(dict(saved.sums) if saved else {})  # since the last record
        self.score = saved.score if saved else None  # of the state as it is
        self.finished = False

    def run(self) -> None:
        """Trains to the last step, or until a signal."""
        with closing(self.job.train_feed):
            self.report.compile()
            self.saver.checkpoints.require_room(self.state)
            processes.wait("compiled")
            self.report.begin()
            self.watch()
            if self.step and self.due and self.score is None:
                self.score_and_save()
            while self.step < self.job.total_steps and not self.agreement.halt:
                self.train()
            self.saver.finish(self.save, lambda: self.agreement.halt)
            if self.agreement.halt and not self.finished:
                signal = Signals(self.agreement.halt)
                where = f"after step {self.step:,}, which is saved" if self.step else "at the start"
                raise Interrupted(
                    signal,
                    f"stopped by {signal.name} {where}; the same command goes on from there",
                )

    def watch(self) -> None:
        """Has a run that stalls end itself; several processes watch each other all the time."""
        if (minutes := self.job.config.supervise.stall_minutes) and not processes.several():
            watch.begin(
                60 * minutes,
                watch.STALLED,
                f"nothing went on for {{seconds:,.0f}} s (config.supervise.stall_minutes="
                f"{minutes:g}); the same command goes on from the newest checkpoint.",
                self.saver.checkpoints.folder.parent / "stall.txt",
            )

    def train(self) -> None:
        """Trains until there is something to save: an epoch's end, a checkpoint, an end."""
        try:
            self.advance()
            while not self.to_save:
                self.advance()
        except UNREADABLE:
            self.report.show()
            self.save_for_later()
            raise
        self.report.show()
        self.score_and_save()

    @property
    def to_save(self) -> bool:
        """Whether the state is to be saved now."""
        every = self.job.config.checkpoint.every_steps
        due = self.epoch_ended or bool(every and self.step % every == 0)
        return bool(self.agreement.halt) or due or self.saver.again

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
        job, begin, report = self.job, self.step, self.report
        end = job.next_stop(begin, self.agreement.steps(report.pace.steps))
        agreement, wanted, so_far = self.agreement, report.pace.steps, self.metrics
        self.state, metrics = job.train_steps(self.state, so_far, begin, end, agreement, wanted)
        report.dispatched(metrics)
        report.show()
        self.saver.poll()
        self.step, self.score = end, None
        report.will_show(begin, end, metrics)
        self.metrics = job.no_metrics() if job.ends_record(end) else metrics
        if (lost := agreement.read()) is not None:
            self.step, self.metrics = lost, metrics
            report.forget()
            raise agreement.failure()

    def score_and_save(self) -> None:
        """Scores the state if that is due, unless a signal comes first, and saves it."""
        with self.report.paused():
            self.check_finite()
            if self.due:
                self.score_epoch()
            self.save()

    def score_epoch(self) -> None:
        """Scores the state and records it, unless a signal comes first."""
        try:
            scores = self.job.score(self.state, self.agreement)
        except UNREADABLE:
            self.save_for_later()
            raise
        if scores is not None:
            epoch = self.step // self.job.steps_per_epoch
            self.report.writer.write("eval", self.step, epoch, **scores)
            self.report.progress.note(epoch_line(epoch, scores))
            self.score = scores[chosen_by(self.job.config)]
            self.finished = self.step == self.job.total_steps

    def save_for_later(self) -> None:
        """Saves the state before an error of the input, which shall cost no work."""
        if self.step and self.step not in self.saver.checkpoints.steps():
            self.check_finite()
            self.save()

    def check_finite(self) -> None:
        """Raises TrainError if the weights are not finite."""
        if not steps.all_finite((self.state.params, self.state.batch_stats)):
            raise self.report.diverged("the weights are no longer finite", self.step)

    def save(self) -> None:
        """Saves the state, its score and the sums of a record that has not ended."""
        kept = {} if self.job.ends_record(self.step) else self.metrics.kept()
        self.saver.save(self.state, self.score, kept)
