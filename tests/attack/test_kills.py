"""A run that is killed at any moment, also within a save, ends as one that was not."""

import random
import time
from pathlib import Path

import pytest
from attack.conftest import EVERY
from attack.runs import Run, assert_as_uninterrupted
from commands import command

from mgnet_jax.training.checkpoint import is_unfinished

OFTEN = "--config.checkpoint.every_steps=3"


def saving(workdir: Path) -> set[str]:
    folder = workdir / "checkpoints"
    return {p.name for p in folder.glob("*") if is_unfinished(p)} if folder.is_dir() else set()


def kill_somewhere(workdir: Path, rng: random.Random, *flags: str) -> None:
    """At any moment from the start of the process."""
    run = Run(workdir, OFTEN, *flags)
    if rng.random() < 0.7:  # most of the start is imports
        run.when(run.has_lock)
    time.sleep(rng.uniform(0, 3))
    run.kill()


def kill_in_a_save(workdir: Path, rng: random.Random, *flags: str) -> None:
    """What a save leaves is there; asserts that it is, else this would attack nothing."""
    for _ in range(10):
        run = Run(workdir, OFTEN, *flags)
        left = saving(workdir)  # of the kill before
        wanted, seen = rng.randrange(1, 6), set[str]()

        def under_way(left: set[str] = left, wanted: int = wanted, seen: set[str] = seen) -> bool:
            left &= (now := saving(workdir))
            seen |= now - left
            return len(seen) >= wanted and bool(now - left)

        if not run.when(under_way):
            assert run.code() == 0, run.said()
            raise AssertionError("finished before it could be killed")
        time.sleep(rng.uniform(0, 0.02))
        run.kill()
        if saving(workdir):
            return
    raise AssertionError("no kill was within a save")


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    workdir, rng = tmp_path / "run", random.Random(1)
    kill_in_a_save(workdir, rng)
    kill_in_a_save(workdir, rng, "--config.checkpoint.background=on")
    kill_somewhere(workdir, rng)
    assert command(workdir, *EVERY) == 0
    assert_as_uninterrupted(workdir, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["on", "off"])
@pytest.mark.parametrize("kill", [kill_in_a_save, kill_somewhere])
@pytest.mark.parametrize("seed", range(8))
def test_kills(seed: int, kill, background: str, uninterrupted: Path, tmp_path: Path) -> None:
    workdir, flag = tmp_path / "run", f"--config.checkpoint.background={background}"
    kill(workdir, random.Random(seed), flag)
    last = Run(workdir, OFTEN, flag)
    assert last.code() == 0, last.said()
    assert_as_uninterrupted(workdir, uninterrupted)
