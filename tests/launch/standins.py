"""The scripts of launch/ as tests start them, and commands that stand in for a cluster's."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ROOT / "launch"
OURS = ("SLURM_", "MGNET_", "JAX_", "TPU_", "CUDA_", "PYTHON", "GRACE")
RECORD = "printf '%s\\0' \"$@\" >> {0}; printf '\\1\\0' >> {0}\n"


class Machine:
    """A folder with commands that come first in PATH, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.started: list[subprocess.Popen[str]] = []

    def command(self, name: str, body: str) -> Path:
        """A command, written in bash; it records its arguments first."""
        path = self.bin / name
        path.write_text(
            "#!/usr/bin/env bash\n" + RECORD.format(self.folder / f"{name}.calls") + body
        )
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[list[str]]:
        path = self.folder / f"{name}.calls"
        text = path.read_text() if path.exists() else ""
        return [call.split("\0")[:-1] for call in text.split("\1\0")[:-1]]

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}", "FOLDER": str(self.folder)}
        process = subprocess.Popen(
            ["bash", str(LAUNCH / script), *arguments],
            cwd=self.folder,
            env=kept | path | {"JAX_PLATFORMS": "cpu"} | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Ends what a failed test has left."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                time.sleep(1)
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def run(self, script: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """The exit code, stdout, stderr."""
        process = self.start(script, *arguments, **variables)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err


def until(so: Callable[[], bool], seconds: float = 90) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end, "it was not so in time"
        time.sleep(0.05)
