"""A run in which nothing goes on ends itself; one that was stopped from outside does not."""

import signal
import time
from pathlib import Path

import pytest
from attack.conftest import EVERY
from attack.runs import Run, assert_as_uninterrupted
from commands import command

from mgnet_jax.training.watch import STALLED

HANGS = """
import time
from mgnet_jax.training.job import Job
train = Job.train_steps
def hanging(job, state, metrics, begin, end, *rest):
    if begin >= 3:
        time.sleep(1000)  # as reading from a disk that is gone
    return train(job, state, metrics, begin, end, *rest)
Job.train_steps = hanging
"""


@pytest.mark.slow
def test_a_run_that_stalls_ends_and_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    flags = ("--config.supervise.stall_minutes=0.03", "--config.checkpoint.every_steps=1")
    run = Run(workdir, *flags, before=HANGS)
    assert run.code() == STALLED == 75
    for text in (run.said(), (workdir / "stall.txt").read_text()):
        assert "in hanging" in text and "Thread" in text
    assert "config.supervise.stall_minutes=0.03" in run.said()
    assert "the same command goes on from the newest checkpoint" in run.said()
    assert "Traceback" not in run.said()
    assert command(workdir, *EVERY) == 0
    assert_as_uninterrupted(workdir, uninterrupted)


SLOW = """
import time
from mgnet_jax.training.job import Job
train = Job.train_steps
def slowly(*arguments):
    time.sleep(0.1)
    return train(*arguments)
Job.train_steps = slowly
"""


@pytest.mark.slow
def test_a_run_that_is_stopped_for_long_and_continued_goes_on(
    uninterrupted: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    flags = ("--config.supervise.stall_minutes=0.005", "--config.checkpoint.every_steps=1")
    run = Run(workdir, *flags, before=SLOW)
    assert run.when(lambda: (workdir / "checkpoints" / "2").exists())
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(8)  # far more than 20 times what a step takes
    run.process.send_signal(signal.SIGCONT)
    assert run.code() == 0, run.said()
    assert not (workdir / "stall.txt").exists()
    assert_as_uninterrupted(workdir, uninterrupted)
