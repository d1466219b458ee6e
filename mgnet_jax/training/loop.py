"""The training loop."""

import contextlib
from contextlib import closing
from pathlib import Path
from signal import Signals

from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, check_last_batch
from mgnet_jax.data.sets import load
from mgnet_jax.training import processes, steps, watch
from mgnet_jax.training.agreement import UNREADABLE, Agreement
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.evaluate import say_confusion
from mgnet_jax.training.files import writing
from mgnet_jax.training.initial import first_state
from mgnet_jax.training.job import Job
from mgnet_jax.training.lock import locked
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.progress import say, warn
from mgnet_jax.training.records import conclude, mend, open_metrics
from mgnet_jax.training.report import DivergedError, Report
from mgnet_jax.training.results import chosen_by, epoch_line
from mgnet_jax.training.saving import Saver
from mgnet_jax.training.supervise import Interrupted, StopSignal
from mgnet_jax.training.workdir import begin, check_workdir, keep, with_decoder


def train(
    config: ConfigDict,
    workdir: Path,
    started: float,
    resume_with: bool = False,
    about: str = "",
) -> None:
    """Trains, or goes on with, the run in workdir until its last epoch.

    Leaves `records.FILES`, run.json, config.json and data.json in workdir.

    Args:
      config: a validated configuration.
      workdir: folder of the run.
      started: time.monotonic() at the start of the command.
      resume_with: whether a run there may go on with other values of `config.CHANGEABLE`.
      about: what the run is, for people; said when its folder and its data are found to be right.

    Raises:
      CheckpointError: no checkpoint there is whole, or they are of another run or network.
      ConfigError: workdir holds a run with another configuration.
      DataError: the data set cannot be read.
      Interrupted: SIGINT, SIGTERM or SIGHUP came; the state was saved.
      LockError: another trainer works there.
      SaveError: checkpoints cannot be saved.
      TrainError: the loss or the weights are no longer finite.
      WriteError: workdir cannot be written.
    """
    changed = check_workdir(config, workdir, resume_with)
    processes.check_shared(workdir)
    with StopSignal() as stop, contextlib.ExitStack() as opened:
        data = load(config.data)
        warn(data.unlike if processes.is_first() else "")
        job = Job(with_decoder(config, workdir), data)
        check_last_batch(config, job.data.info, job.mesh.devices.size)
        if not processes.several():
            opened.callback(watch.end)
        keeping = config.checkpoint.keep, config.checkpoint.background
        with writing(workdir):
            lock = opened.enter_context(locked(workdir))
            checkpoints = opened.enter_context(Checkpoints(workdir, *keeping))
            saved = checkpoints.newest()
        decoder = job.cut.decoder if job.train_feed.streamed else ""
        run = begin(config, job.data, decoder, workdir, resume_with)
        if about:
            say(about)
        finished = bool(saved and saved.step == job.total_steps and saved.score is not None)
        if changed and finished:
            raise ConfigError(
                f"{workdir} holds a finished run, with nothing left to train with other values: "
                f"{'; '.join(changed)}. Give another --workdir, or the old values."
            )
        if changed:
            say(f"Going on with other values: {'; '.join(changed)}.")
        with writing(workdir):
            keep(run, workdir)
        if saved and finished:
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
            loop = _Loop(job, saved, saver, report, agreement, stop)
            loop.run()
            if job.train_feed.streamed:
                say_confusion(job, loop.state)
    if processes.is_first():
        with writing(workdir):
            conclude(job, workdir, finished)


class _Loop:
    """Call after call; while the device computes one, the one before it is reported."""

    def __init__(
        self,
        job: Job,
        saved: Manifest | None,
        saver: Saver,
        report: Report,
        agreement: Agreement,
        stop: StopSignal,
    ):
        self.job, self.saver, self.report, self.agreement = job, saver, report, agreement
        self.stop = stop
        self.begin(saved)
        if saved:
            devices = job.mesh.devices.size
            before = f" (saved with {saved.devices}, now {devices})"
            changed = f"{before} devices" if devices != saved.devices else ""
            say(f"Going on from step {saved.step:,} of {saver.checkpoints.folder.parent}{changed}.")

    def begin(self, saved: Manifest | None) -> None:
        """Takes the state of a checkpoint, or the first one."""
        if saved:
            self.state = self.saver.checkpoints.restore(saved, self.job.abstract_state)
        else:
            self.state = first_state(self.job)
        self.step = saved.step if saved else 0
        self.metrics = self.job.no_metrics(dict(saved.sums) if saved else {})  # of a record begun
        self.score = saved.score if saved else None  # of the state as it is
        self.finished = False
        self.back = saved.run.get("rollbacks", 0) if saved else 0
        self.job.draw_anew(self.back)

    def roll_back(self, error: DivergedError) -> None:
        """Goes back to the newest checkpoint, if the run does so and has not done it too often."""
        train = self.job.config.train
        times = self.back + 1
        if train.on_nonfinite != "rollback":
            raise error
        if times > train.most_rollbacks:
            raise DivergedError(f"{error} It went back {self.back} times.") from error
        saved = self.saver.back()
        self.begin(saved)
        self.back = times
        self.job.draw_anew(times)
        self.saver.run["rollbacks"] = times
        self.report.went_back(saved.history if saved else "")
        self.report.progress.note(
            f"{str(error).partition(';')[0]}: back to step {self.step:,}, with other augmentation "
            f"({times} of {train.most_rollbacks}, config.train.most_rollbacks)"
        )

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
                try:
                    self.train()
                except DivergedError as error:
                    self.roll_back(error)
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
        self.stop.to_save = True
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
        """Raises DivergedError if the state is not finite."""
        if not steps.all_finite(self.state):
            raise self.report.diverged("the weights are no longer finite", self.step)

    def save(self) -> None:
        """Saves the state, its score and the sums of a record that has not ended."""
        kept = {} if self.job.ends_record(self.step) else self.metrics.kept()
        self.saver.save(self.state, self.score, kept)
