"""How many steps a compiled call gets: about a second's worth, so that a signal is seen soon."""

import time
from collections.abc import Callable


class Pace:
    """Measures calls one after the other, of which at most one is under way while one waits.

    Attributes:
      steps: what the next call should get; it starts at 1 and at most doubles.
    """

    def __init__(self, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic):
        self.seconds, self.clock, self.steps = seconds, clock, 1
        self._last = clock()

    def ended(self, steps: int) -> None:
        """Notes that a call of so many steps has ended, and began when the one before it did."""
        now = self.clock()
        self.steps = max(1, min(2 * steps, int(self.seconds * steps / max(now - self._last, 1e-6))))
        self._last = now

    def begin(self) -> None:
        """Notes that the next call begins now, after something that took time."""
        self._last = self.clock()
