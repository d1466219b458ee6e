"""Being told to stop: SIGINT (Ctrl-C) and SIGTERM let a run save its state first."""

import os
import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """A signal stopped the work; what there was of it was saved."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal


class StopSignal:
    """While entered, notes a SIGINT or SIGTERM in `received` and says so; a second SIGINT acts.

    Schedulers may send SIGTERM more than once, so a second one changes nothing.

    Attributes:
      received: the first signal, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopSignal":
        self._before = {s: signal.signal(s, self._note) for s in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        text = "\nstopping after the steps under way; Ctrl-C (again) to stop at once, unsaved\n"
        os.write(2, text.encode())  # print is not safe in a handler
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])
