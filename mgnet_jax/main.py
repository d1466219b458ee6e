"""Starts the command line, see commandline.py: `python -m mgnet_jax.main --help`.

Worker processes import this file again as they start, so that nothing here imports more than they
need; and its first line is the start of the command.
"""

# ruff: noqa: E402
import time

STARTED = time.monotonic()  # before the imports, which take seconds

import os
import signal
import sys
from types import FrameType

KEPT = {"trim_threshold": -1, "mmap_max": -4}
"""Parameters of glibc's mallopt, by their names in its tunables."""


def main(argv: list[str]) -> int:
    """Runs the command, the program and its arguments, and gives its exit code."""
    from mgnet_jax.commandline import run

    return run(argv, STARTED)


def keep_freed_memory() -> None:
    """Has the C library keep what is freed, for the next array, instead of giving it back.

    Otherwise a step on a CPU spends time on pages that it has just given back and gets again,
    emptied by the kernel. For glibc; what MALLOC_... or GLIBC_TUNABLES say is left.
    """
    import contextlib
    import ctypes

    said = [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]
    if sys.platform != "linux" or said:
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(KEPT["mmap_max"], 0)  # large arrays lie where small ones do
        mallopt(KEPT["trim_threshold"], -1)  # never


def leave(number: int, frame: FrameType | None) -> None:
    """Ends the process, quietly, where nothing has been begun that could be saved.

    An exception, as Python's own KeyboardInterrupt, would be lost in what cannot pass it on.
    """
    os.write(2, f"\nstopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


def command() -> None:
    """Runs the command of this process and ends it: `python -m mgnet_jax.main`, and `mgnet`."""
    stops = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    for number in stops:  # one that is ignored stays so
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    keep_freed_memory()
    code = main(sys.argv)
    if code > 128:  # it is being done: schedulers may send it again
        for number in stops:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    command()
