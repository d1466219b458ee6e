"""What is watched ends itself when nothing goes on, and not before."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BEGIN = """
import sys, time
from pathlib import Path
from mgnet_jax.training import watch
log = Path(sys.argv[1]) if sys.argv[1] else None
watch.begin(0.5, 75, "nothing for {seconds:.1f} s", log)
print("begun", flush=True)
"""


def process(code: str, log: str = "") -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, log],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    return started


def ended(started: subprocess.Popen[str]) -> int:
    """Its exit code."""
    started.communicate(timeout=60)
    return started.returncode


def test_what_hangs_ends_and_shows_where(tmp_path: Path) -> None:
    hung = process("def hang():\n  time.sleep(60)\nhang()", str(tmp_path / "stall.txt"))
    said = hung.communicate(timeout=30)[1]
    assert hung.returncode == 75
    for text in (said, (tmp_path / "stall.txt").read_text()):
        assert "in hang" in text
    assert "error: nothing for 0.5 s" in said


@pytest.mark.parametrize("log", ["", "stall.txt"])
def test_what_goes_on_or_was_ended_does_not(log: str, tmp_path: Path) -> None:
    code = "for _ in range(10):\n  watch.alive(); time.sleep(0.1)\nwatch.end(); time.sleep(1)"
    assert ended(process(code, log and str(tmp_path / log))) == 0
    assert not (tmp_path / "stall.txt").exists()


def test_what_is_slow_from_the_beginning_is_no_stall(tmp_path: Path) -> None:
    code = "time.sleep(0.3); watch.alive(); time.sleep(1.5); watch.alive()"
    assert ended(process(code, str(tmp_path / "stall.txt"))) == 0


STEPS = "for _ in range({}):\n  watch.alive(); time.sleep(0.01)\n"


def test_being_stopped_is_no_stall_and_hides_none_later(tmp_path: Path) -> None:
    """That time is not counted, also not as how long progress may take."""
    stopped = process(STEPS.format(400) + "time.sleep(60)", str(tmp_path / "stall.txt"))
    time.sleep(0.5)
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(3)
    stopped.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    assert stopped.poll() is None
    begun = time.monotonic()
    assert ended(stopped) == 75
    assert time.monotonic() - begun < 30  # else the 3 s of the stop, 20 times
