"""A finished run that is given more epochs ends as one that was to have them from the start."""

import json
from pathlib import Path

import pytest
from commands import command, newest_state, records
from jax.tree_util import tree_leaves

SMALL = (
    "--config.model.spec=MgNet[1]-[4]-B^l",
    "--config.optim.warmup_epochs=0.5",
    "--config.eval.every_epochs=1",
)


@pytest.mark.parametrize("schedule", ["constant", pytest.param("step", marks=pytest.mark.slow)])
def test_more_epochs_follow_as_if_they_had_been_there(schedule: str, tmp_path: Path) -> None:
    flags = (*SMALL, f"--config.optim.schedule={schedule}", "--config.optim.step_epochs=2")
    assert command(tmp_path / "whole", *flags, "--config.train.epochs=3") == 0
    assert command(tmp_path / "longer", *flags, "--config.train.epochs=1") == 0
    assert command(tmp_path / "longer", *flags, "--config.train.epochs=3") == 0
    assert records(tmp_path / "longer") == records(tmp_path / "whole")
    states = [tree_leaves(newest_state(tmp_path / name)) for name in ("longer", "whole")]
    assert all((a == b).all() for a, b in zip(*states, strict=True))
    kept = json.loads((tmp_path / "longer" / "run.json").read_text())
    assert kept["changes"][0]["changes"] == ["config.train.epochs was 1 and is now 3"]


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("cosine", 0.001), pytest.param("linear", 0.0019, marks=pytest.mark.slow)],  # 1/55 of 0.1
)
def test_a_rate_that_went_to_zero_is_asked_about_and_fewer_epochs_are_refused(
    schedule: str, last: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = tmp_path / "run", (*SMALL, f"--config.optim.schedule={schedule}")
    assert command(run, *flags, "--config.train.epochs=2") == 0
    capsys.readouterr()
    assert command(run, *flags, "--config.train.epochs=3") == 2
    assert (
        f"the rate then follows the {schedule} schedule of the new length"
        in capsys.readouterr().err
    )
    assert command(run, *flags, "--config.train.epochs=1") == 2
    error = capsys.readouterr().err
    assert "was 2 and is now 1" in error and "--resume_with" not in error
    assert command(run, *flags, "--config.train.epochs=3", "--resume_with") == 0
    rates = [r["learning_rate"] for r in records(run) if r["kind"] == "train"]
    assert rates[-1] < last and len(rates) == 3 and rates[2] != rates[1]
    assert records(run)[-1]["epoch"] == 3


def test_other_values_are_not_taken_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, constant = tmp_path / "run", "--config.optim.schedule=constant"
    assert command(run, *SMALL, constant, "--config.train.epochs=1") == 0
    flags = (constant, "--config.train.epochs=2", "--config.optim.momentum=0.5")
    assert command(run, *SMALL, *flags) == 2
    assert "config.optim.momentum was 0.9 and is now 0.5" in capsys.readouterr().err
