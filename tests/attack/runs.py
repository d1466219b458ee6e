"""Runs of the command line in processes of their own, to be killed, stopped and starved."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import chex
from attack.conftest import EVERY
from commands import command, newest_state, records
from launched import ROOT

PROGRAM = """
import sys
{before}
from mgnet_jax.main import main
sys.exit(main(sys.argv))
"""


class Run:
    """The small run in a process; `before` is Python code that it starts with."""

    def __init__(self, workdir: Path, *arguments: str, before: str = "") -> None:
        number = len([*workdir.parent.glob(f"{workdir.name}.*.err")])
        self.workdir, self.err = workdir, workdir.with_name(f"{workdir.name}.{number}.err")
        with self.err.open("w") as err, self.err.with_suffix(".out").open("w") as out:
            self.process = subprocess.Popen(
                self.line(workdir, *arguments, before=before),
                env=self.environment(),
                stdout=out,
                stderr=err,
            )

    @staticmethod
    def line(workdir: Path, *arguments: str, before: str = "") -> list[str]:
        """Its command line."""
        flags = (f"--workdir={workdir}", *EVERY, *arguments)
        return [sys.executable, "-c", PROGRAM.format(before=before), *flags]

    @staticmethod
    def environment() -> dict[str, str]:
        """Its environment: as here, so that it has as many devices."""
        return os.environ | {"PYTHONPATH": str(ROOT)}

    def when(self, ready: Callable[[], object], seconds: float = 120) -> bool:
        """Waits until something is so; False if the run ends before."""
        until = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < until, self.said()
            time.sleep(0.001)
        return True

    def has_lock(self) -> bool:
        lock = self.workdir / ".lock"
        return lock.exists() and str(self.process.pid) in lock.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def code(self, seconds: float = 120) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def said(self) -> str:
        return self.err.read_text() + self.err.with_suffix(".out").read_text()


def assert_as_uninterrupted(workdir: Path, uninterrupted: Path) -> None:
    """To the last bit; and all is whole."""
    assert records(workdir) == records(uninterrupted)
    assert rows(workdir) == rows(uninterrupted)
    chex.assert_trees_all_equal(newest_state(workdir), newest_state(uninterrupted))
    assert command(workdir, "--mode=verify") == 0


def rows(workdir: Path) -> list[list[str]]:
    """Metrics.csv without its times."""
    lines = [line.split(",") for line in (workdir / "metrics.csv").read_text().splitlines()]
    timed = [lines[0].index(name) for name in ("images_per_second", "seconds")]
    return [[cell for i, cell in enumerate(line) if i not in timed] for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
