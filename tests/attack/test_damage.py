"""Damage to a checkpoint is seen, and the run goes on from the one before to the same end."""

import random
import shutil
from pathlib import Path

import chex
import pytest
from attack.conftest import EVERY
from attack.damage import HEAVY, Damage, flip
from commands import command, newest_state, records

from mgnet_jax.training.checkpoint import CheckpointError, Checkpoints


def damaged(broken_off: Path, workdir: Path, damage: Damage, seed: int) -> Path:
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(broken_off, workdir)
    damage(workdir / "checkpoints" / "30", random.Random(seed))
    return workdir


def trials(count: int) -> list[tuple[Damage, int]]:
    """Flips, and a third as many heavier damages."""
    heavy = [(HEAVY[i % len(HEAVY)], i) for i in range(count // 3)]
    return [*((flip, i) for i in range(count)), *heavy]


@pytest.mark.parametrize(
    ("damage", "seed"),
    [
        *(pytest.param(d, s, id=f"{d.__name__}{s}") for d, s in trials(60)),
        *(
            pytest.param(d, s, id=f"{d.__name__}{s}", marks=pytest.mark.slow)
            for d, s in trials(300)
            if s >= (60 if d is flip else 20)
        ),
    ],
)
def test_any_damage_is_seen(damage: Damage, seed: int, broken_off: Path, tmp_path: Path) -> None:
    workdir = damaged(broken_off, tmp_path / "run", damage, seed)
    with Checkpoints(workdir, 2) as checkpoints:
        newest = checkpoints.newest()
        assert newest is not None and newest.step == 22
        assert checkpoints.steps() == [22]
        assert (checkpoints.folder / "damaged" / "30").is_dir()


@pytest.mark.parametrize(
    ("damage", "seed"),
    [
        *(pytest.param(d, s, id=f"{d.__name__}{s}") for d, s in ((flip, 1000), (HEAVY[0], 1001))),
        *(pytest.param(d, s, id=f"{d.__name__}{s}", marks=pytest.mark.slow) for d, s in trials(30)),
    ],
)
def test_a_damaged_run_ends_as_one_that_was_not(
    damage: Damage,
    seed: int,
    broken_off: Path,
    uninterrupted: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = damaged(broken_off, tmp_path / "run", damage, seed)
    assert command(workdir, *EVERY) == 0
    out = capsys.readouterr().out
    assert "checkpoint 30 is damaged: " in out
    assert "Going on from step 22" in out
    assert records(workdir) == records(uninterrupted)
    chex.assert_trees_all_equal(newest_state(workdir), newest_state(uninterrupted))
    assert command(workdir, "--mode=verify") == 0


def test_without_a_whole_one_nothing_is_lost_or_begun(
    broken_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = damaged(broken_off, tmp_path / "run", flip, 1)
    flip(workdir / "checkpoints" / "22", random.Random(2))
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    for mode in ("train", "eval", "verify"):
        assert command(workdir, f"--mode={mode}", *(EVERY if mode == "train" else ())) in (1, 2)
        captured = capsys.readouterr()
        assert "damaged" in captured.err + captured.out
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    with Checkpoints(workdir, 2) as checkpoints, pytest.raises(CheckpointError, match="start anew"):
        checkpoints.newest()
