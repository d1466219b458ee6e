"""Several processes of the command line on this machine, as tests start and stop them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from portpicker import pick_unused_port

ROOT = Path(__file__).parent.parent
ALONE = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}


class Processes:
    """A command in `count` processes; what they write is in workdir/../NAME.INDEX.{out,err}.

    `second` has further arguments of process 1, in which {address} is that of process 0.
    """

    def __init__(
        self,
        count: int,
        workdir: Path,
        *arguments: str,
        timeout: float = 60,
        second: tuple[str, ...] = (),
    ) -> None:
        address = f"localhost:{pick_unused_port()}"
        self.logs = [workdir.with_name(f"{workdir.name}.{i}") for i in range(count)]
        self.all = []
        for i, log in enumerate(self.logs):
            flags = [f"--distributed={address},{count},{i}", f"--hang_timeout={timeout:g}"]
            flags += [flag.format(address=address) for flag in second if i == 1]
            command = [sys.executable, "-m", "mgnet_jax.main", f"--workdir={workdir}"]
            with log.with_suffix(f".{i}.out").open("w") as out, self.err(i).open("w") as err:
                self.all.append(
                    subprocess.Popen(
                        [*command, *arguments, *flags],
                        env=os.environ | ALONE,
                        stdout=out,
                        stderr=err,
                    )
                )

    def err(self, index: int) -> Path:
        return self.logs[index].with_suffix(f".{index}.err")

    def said(self, index: int) -> str:
        return self.err(index).read_text()

    def out(self, index: int) -> str:
        return self.logs[index].with_suffix(f".{index}.out").read_text()

    def when(self, ready: Callable[[], bool], number: int, *indices: int) -> None:
        """Sends a signal to some of them as soon as something is so."""
        until = time.monotonic() + 90
        while not ready() and time.monotonic() < until:
            if any(process.poll() is not None for process in self.all):
                raise AssertionError(f"one has ended too soon: {self.codes(10)} {self.said(0)}")
            time.sleep(0.1)
        for index in indices:
            self.all[index].send_signal(number)

    def codes(self, seconds: float = 150) -> list[int]:
        """Their exit codes; what does not end in time is killed, and that is seen in its code."""
        until = time.monotonic() + seconds
        for process in self.all:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGCONT)
                process.kill()
        return [process.wait() for process in self.all]


def saved(workdir: Path) -> list[int]:
    """The steps of the checkpoints that are whole."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal())


def run_code(code: str, count: int, out: str, *arguments: str) -> list[int]:
    """Exit codes of Python code in processes, given OUT, what --distributed takes, ARGUMENTS."""
    address = f"localhost:{pick_unused_port()}"
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", code, out, f"{address},{count},{i}", *arguments],
            env=os.environ | ALONE,
        )
        for i in range(count)
    ]
    return [process.wait(150) for process in begun]
