"""Saving the states of a run, and what is done where that fails: training goes on in memory."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mgnet_jax.training import processes, watch
from mgnet_jax.training.checkpoint import Checkpoints, SaveError
from mgnet_jax.training.lock import Lock
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.metrics import MetricsWriter
from mgnet_jax.training.state import TrainState


class Saver:
    """Saves the states of a run.

    Args:
      checkpoints: where to.
      run: whose they are, see `workdir.begin`.
      devices: over which batches are split.
      writer: of the records that are saved with a state.
      lock: of the folder; None for a process that does not hold it.
      minutes: for how long a save that fails is tried again while training goes on.
      note: says something to people.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        run: Mapping[str, Any],
        devices: int,
        writer: MetricsWriter,
        lock: Lock | None,
        minutes: float,
        note: Callable[[str], None],
    ):
        self.checkpoints, self.run, self.devices = checkpoints, dict(run), devices
        self.writer, self.lock, self.bound, self.note = writer, lock, 60 * minutes, note
        self._since = self._tried = 0.0
        self.pause = min(10.0, self.bound / 10)

    @property
    def again(self) -> bool:
        """Whether a save that failed is to be tried again now."""
        return bool(self._since) and time.monotonic() > self._tried + self.pause

    def poll(self) -> None:
        """Looks whether a save in the background has failed."""
        try:
            self.checkpoints.poll()
        except SaveError as error:
            self._failed(error)

    def save(self, state: TrainState, score: float | None, sums: Mapping[str, float]) -> None:
        """Saves a state with the records so far; if that fails, it is said and tried again later.

        Args:
          state: what to save; it may be used up when this returns.
          score: the accuracy by which the best epoch is chosen, if it was scored.
          sums: the metrics of the steps since the last record, from `Metrics.kept`.

        Raises:
          SaveError: the folder is gone, or saving has failed for too long.
        """
        watch.alive()
        if self.lock and not self.lock.holds():
            raise SaveError(
                f"{self.lock.path.parent} was removed or replaced, or {self.lock.path.name} in it, "
                f"while the run worked there: nothing more is saved. Put the folder back, and the "
                f"same command goes on from its newest checkpoint"
            )
        facts = Manifest(
            int(state.step), self.run, {}, score, sums, self.devices, history=self.writer.history
        )
        try:
            self.checkpoints.save(state, facts)
            if self._since:
                self.checkpoints.wait()  # whether it succeeds at last must be known
            self.writer.catch_up()
        except (SaveError, OSError) as error:
            self._failed(error)
        else:
            if self._since:
                self.note(f"saved after step {facts.step:,}")
            self._since = 0.0
        watch.alive()

    def back(self) -> Manifest | None:
        """The newest whole checkpoint, to go back to; None if there is none yet."""
        with contextlib.suppress(SaveError):
            self.checkpoints.wait()
        self.checkpoints.forget()
        return self.checkpoints.newest()

    def finish(self, save: Callable[[], None], stopped: Callable[[], int]) -> None:
        """Waits for saves that are under way, and tries one that failed again until it succeeds.

        Args:
          save: saves the last state.
          stopped: whether not to wait any longer.

        Raises:
          SaveError: it does not succeed.
        """
        while True:
            try:
                self.checkpoints.wait()
            except SaveError as error:
                self._failed(error)
            if not self._since:
                return
            if stopped():
                raise self._lost(self._error)
            time.sleep(min(1.0, self.pause))
            if self.again:
                save()

    def _failed(self, error: Exception) -> None:
        """Says it and lets training go on, for a while."""
        now, self._error = time.monotonic(), error
        first, self._since, self._tried = not self._since, self._since or now, now
        if processes.several() or now - self._since >= self.bound:
            raise self._lost(error)
        if first:
            self.note(
                f"not saved: {error}. Training goes on in memory, and saving is tried again for "
                f"{self.bound / 60:g} minutes (config.checkpoint.retry_minutes); make room"
            )

    def _lost(self, error: Exception) -> SaveError:
        steps = self.checkpoints.steps()
        newest = f"the newest checkpoint is of step {steps[-1]:,}" if steps else "there is none yet"
        folder: Path = self.checkpoints.folder
        return SaveError(
            f"not saved: {error}. {newest[0].upper()}{newest[1:]} in {folder}; when saving is "
            f"possible again, the same command goes on from there"
        )
