"""How long the device has nothing to do since its next batch is not there yet."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Idle:
    """Counts the seconds from the end of a compiled call to the batch of the next one.

    A batch that comes while the call before it is still computed costs no time, however long the
    host waited for it.

    Attributes:
      seconds: counted so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ends = ThreadPoolExecutor(1, thread_name_prefix="idle")
        self._end: Future[float] | None = None

    def dispatched(self, asked: float, came: float, result: Any) -> None:
        """Notes a call.

        Args:
          asked: when its batch was asked for, in seconds of time.monotonic().
          came: when it came.
          result: of the call; it is there when the call ends.
        """
        if self._end is None:
            self.seconds += came - asked
        elif self._end.done():
            self.seconds += max(0.0, came - max(asked, self._end.result()))
        self._end = self._ends.submit(_end_of, result)

    def close(self) -> None:
        """Ends the thread that waits for calls."""
        self._ends.shutdown(wait=False)


def _end_of(result: Any) -> float:
    jax.block_until_ready(result)
    return time.monotonic()
