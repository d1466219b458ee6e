"""Being told to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP let a run save its state first."""

import contextlib
import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType

from mgnet_jax.training import processes


class Interrupted(Exception):
    """A signal stopped the work; what there was of it was saved."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal


class StopSignal:
    """While entered, notes a signal in `received` and says so; a second SIGINT ends the process.

    Schedulers may send SIGTERM more than once, so a second one changes nothing. A signal that is
    ignored, as SIGHUP under nohup and SIGINT in the background, stays so.

    Python's handlers wait for XLA to end what it compiles. So a thread hears of signals too, and
    ends the process where there is nothing to save.

    Attributes:
      received: the first signal, or None.
      to_save: whether there is work to be lost; to be set.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    GRACE = 2.0  # seconds for the main thread to end by itself

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.to_save = False

    def __enter__(self) -> "StopSignal":
        heard = [s for s in self.SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
        self._before = {s: signal.signal(s, self._note) for s in heard}
        self._ended = threading.Event()
        pipe, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(pipe,), name="signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        signal.set_wakeup_fd(self._woken_before)
        os.close(self._wake)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        text = "\nstopping after the steps under way; Ctrl-C (again) to stop at once, unsaved\n"
        os.write(2, text.encode())  # print is not safe in a handler
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, _leave)

    def _listen(self, pipe: int) -> None:
        """Hears of each signal, as a byte, until the other end of the pipe is closed."""
        numbers: list[int] = []
        with contextlib.closing(os.fdopen(pipe, "rb", buffering=0)) as bytes_:
            while heard := bytes_.read(1):
                if heard[0] not in self._before:
                    continue
                numbers.append(heard[0])
                stuck = not self._ended.wait(self.GRACE) and not processes.several()
                if stuck and (not self.to_save or numbers[1:].count(signal.SIGINT)):
                    _leave(numbers[0], None)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once, and those that it started."""
    text = f"\nstopped by {signal.Signals(number).name}; nothing was saved after the newest "
    os.write(2, f"{text}checkpoint\n".encode())
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)
