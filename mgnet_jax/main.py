"""Starts the command line, see commandline.py: `python -m mgnet_jax.main --help`.

Worker processes import this file again as they start, so that nothing here imports more than they
need; and its first line is the start of the command.
"""

# ruff: noqa: E402
import time

STARTED = time.monotonic()  # before the imports, which take seconds

import signal
import sys


def main(argv: list[str]) -> int:
    """Runs the command, the program and its arguments, and gives its exit code."""
    from mgnet_jax.commandline import run

    return run(argv, STARTED)


if __name__ == "__main__":
    code = main(sys.argv)
    if code == 128 + signal.SIGTERM:  # it is being done: schedulers may send it again
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
