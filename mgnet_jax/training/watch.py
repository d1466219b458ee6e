"""Ends a process in which nothing goes on any longer, and shows where it stands.

One watch at a time: `begin` starts it, `alive` notes progress, `end` stops it.
"""

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

STALLED = 75
"""Exit code of a run that stalled: EX_TEMPFAIL, the same command goes on."""


GRACE = 5.0


class _Watch:
    """A thread that looks at the time of the last progress."""

    def __init__(
        self, seconds: float, code: int, text: str, log: Path | None, over: Callable[[], str]
    ):
        self.seconds, self.code, self.text, self.log, self.over = seconds, code, text, log, over
        self.last, self.longest, self.ended = time.monotonic(), 0.0, threading.Event()
        self.adapts, self.pause = log is not None, min(5.0, seconds / 10)
        self._seen, self._lock = self.last, threading.Lock()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    @property
    def limit(self) -> float:
        """Seconds without progress that are too many: far more than it ever took so far."""
        return max(self.seconds, 20 * self.longest) if self.adapts else self.seconds

    def _look(self) -> None:
        while not self.ended.wait(self.pause):
            now = self.now()
            if not self.adapts:  # if even this thread cannot run
                faulthandler.dump_traceback_later(self.seconds + 4 * self.pause, exit=True)
            if now - self.last > self.limit:
                self._give_up()
            if (text := self.over()) and not self.ended.wait(GRACE):
                os.write(2, f"\nerror: {text}\n".encode())
                os._exit(self.code)
        faulthandler.cancel_dump_traceback_later()

    def now(self) -> float:
        """The time; that for which the whole process was stopped is left out of `last`."""
        with self._lock:
            now, before = time.monotonic(), self._seen
            if now - before > 3 * self.pause:
                self.last += now - before
            self._seen = now
            return now

    def _give_up(self) -> None:
        os.write(2, f"\nerror: {self.text.format(seconds=self.limit)}\n".encode())
        faulthandler.dump_traceback(all_threads=True)
        if self.log:
            with contextlib.suppress(OSError), self.log.open("w") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
                faulthandler.dump_traceback(file, all_threads=True)
        os._exit(self.code)


_current: _Watch | None = None


def begin(
    seconds: float,
    code: int,
    text: str,
    log: Path | None = None,
    over: Callable[[], str] = lambda: "",
) -> None:
    """Starts watching.

    Args:
      seconds: without progress after which the process ends.
      code: its exit code.
      text: what is said before; {seconds} in it is the time.
      log: a file for the stacks of all threads, which stderr gets too; with one, the seconds are at
        least 20 times what progress has taken so far, so that what is slow is not taken for a hang.
      over: why there is nothing to go on with, if that is so: the process then ends too, unless it
        does so by itself within `GRACE` seconds.
    """
    global _current
    end()
    _current = _Watch(seconds, code, text, log, over)


def running() -> float:
    """The seconds of the watch that runs; 0 without one."""
    return _current.seconds if _current else 0.0


def alive() -> None:
    """Notes progress."""
    if _current:
        now = _current.now()
        _current.longest, _current.last = max(_current.longest, now - _current.last), now


def end() -> None:
    """Stops watching."""
    global _current
    if _current:
        _current.ended.set()
    _current = None
