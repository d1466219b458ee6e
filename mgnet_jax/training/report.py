"""What a run shows and records of its compiled calls, one call behind."""

import contextlib
import math
import time
from collections.abc import Iterator

import jax

from mgnet_jax.training.idle import Idle
from mgnet_jax.training.job import Job
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.metrics import MetricsWriter
from mgnet_jax.training.pace import Pace
from mgnet_jax.training.progress import Progress, mebibytes


class TrainError(RuntimeError):
    """Training cannot go on; the message says where it stands and what to change."""

    exit_code = 1


class DivergedError(TrainError):
    """The loss or the weights are no longer finite."""


class Report(contextlib.ExitStack):
    """Shows the progress of a run and writes its records.

    Args:
      job: what is run.
      writer: of its records.
      started: time.monotonic() at the start of the command.

    Attributes:
      progress: the line that people see.
      pace: of the calls.
    """

    def __init__(self, job: Job, writer: MetricsWriter, started: float):
        super().__init__()
        self.job, self.writer, self.started = job, self.enter_context(writer), started
        mean_batch = sum(job.batches.sizes) / job.steps_per_epoch
        epochs = job.config.train.epochs
        self.progress = Progress(job.total_steps, epochs, mean_batch)
        self.pace, self._idle = Pace(), Idle()
        self.callback(self.progress.close)
        self.callback(self._idle.close)
        self._unread: tuple[int, int, Metrics] | None = None
        self._first = True

    def compile(self) -> None:
        """Compiles the steps and says what it took."""
        job, begun = self.job, time.monotonic()
        self.progress.note("compiling the training step ...")
        memory = job.train_chunks[job.batches.sizes[0]].memory_analysis()
        seconds = time.monotonic() - begun
        last = job.batches.sizes[-1]
        apart = last < job.batches.sizes[0]
        smaller = f", the last of {last} images compiled apart" if apart else ""
        size = f", {mebibytes(memory.temp_size_in_bytes)} of working memory" if memory else ""
        count = job.mesh.devices.size
        self.progress.note(
            f"{count} {jax.devices()[0].device_kind} device{'s' * (count > 1)}, "
            f"{job.train_size:,} training images, {job.steps_per_epoch:,} steps an epoch{smaller}\n"
            f"compiled in {seconds:.1f} s{size}{job.train_feed.note}"
        )

    def begin(self) -> None:
        """Starts the clocks; all that came before is no training."""
        self.pace.begin()
        self._waited, self._waited_from = 0.0, time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time spent inside out of all rates."""
        begun = time.monotonic()
        with self.progress.paused():
            yield
        self.pace.begin()
        self._waited_from += time.monotonic() - begun

    def dispatched(self, metrics: Metrics) -> None:
        """Notes that a call is under way, which gives these metrics."""
        feed = self.job.train_feed
        if feed.streamed:
            self._idle.dispatched(feed.asked, feed.came, metrics.count)

    def will_show(self, begin: int, end: int, metrics: Metrics) -> None:
        """Keeps the metrics of the steps begin .. end - 1 for the next `show`."""
        self._unread = begin, end, metrics

    def forget(self) -> None:
        """Drops what is kept: those steps were not done."""
        self._unread = None

    def went_back(self, history: str) -> None:
        """Drops the records after these."""
        self.forget()
        self.writer.rewind(history)
        self.begin()

    def show(self) -> None:
        """Shows the metrics that are kept, and writes a record that ends with them.

        Raises:
          DivergedError: the loss is not finite.
        """
        if not self._unread:
            return
        job, (begin, step, metrics) = self.job, self._unread
        self._unread = None
        values = metrics.summary()
        self.pace.ended(step - begin)
        seconds = time.monotonic() - self.started
        if self._first:
            self.progress.note(f"first steps done {seconds:.1f} s after the start")
            self._first = False
        self._check(values["loss"], metrics, step)
        waiting, last = self._waiting(), step == job.total_steps
        loss, accuracy = values["loss"], values["accuracy"]
        self.progress.update(step, loss, accuracy, waiting=waiting.get("waiting"), last=last)
        if not job.ends_record(step):
            return
        self._waited, self._waited_from = self._idle.seconds, time.monotonic()
        self.writer.write(
            "train",
            step,
            step / job.steps_per_epoch,
            learning_rate=job.learning_rate(step - 1),
            images_per_second=self.progress.images_per_second,
            seconds=seconds,
            **waiting,
            **values,
        )

    def _check(self, loss: float, metrics: Metrics, step: int) -> None:
        """Raises DivergedError if training cannot go on from here."""
        most = self.job.config.train.most_skipped
        if metrics.skipped is None and not math.isfinite(loss):
            raise self.diverged(f"the loss is {loss}", step)
        if metrics.skipped is not None and int(metrics.skipped[1]) >= most:
            raise self.diverged(
                f"{most} steps in a row (config.train.most_skipped) were not finite", step
            )

    def _waiting(self) -> dict[str, float]:
        """The share of the time since the last record that the device had to wait for images."""
        if not self.job.train_feed.streamed:
            return {}
        waited, passed = self._idle.seconds - self._waited, time.monotonic() - self._waited_from
        return {"waiting": waited / max(passed, 1e-9)}

    def diverged(self, what: str, step: int) -> DivergedError:
        """The error of a run that has nothing to go on with."""
        optim = self.job.config.optim
        rate, decay = optim.learning_rate, optim.weight_decay
        advice = (
            f"Lower config.optim.weight_decay={decay:g} or config.optim.learning_rate={rate:g}: "
            f"their product takes away more than the weights are"
            if rate * decay >= 1
            else f"Lower config.optim.learning_rate={rate:g}, raise "
            f"config.optim.warmup_epochs={optim.warmup_epochs:g} or set config.optim.clip_norm"
        )
        return DivergedError(
            f"{what} in the steps up to {step:,}; nothing of that was saved. {advice}: with "
            f"--resume_with from the newest checkpoint, or anew with another --workdir."
        )
