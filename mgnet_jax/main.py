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


def main(argv: list[str]) -> int:
    """Runs the command, the program and its arguments, and gives its exit code."""
    from mgnet_jax.commandline import run

    return run(argv, STARTED)


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
    code = main(sys.argv)
    if code > 128:  # it is being done: schedulers may send it again
        for number in stops:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    command()
