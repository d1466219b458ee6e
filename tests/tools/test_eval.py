"""--mode=eval: the scores of training, from the run's own configuration, nothing changed."""

import shutil
from pathlib import Path

import pytest
from commands import SMALL, command, records


@pytest.mark.parametrize("which", ["last", "best", str(12 * 22)])
def test_eval_scores_a_checkpoint_as_training_did(
    trained: Path, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evals = [r for r in records(trained) if r["kind"] == "eval"]
    best = max(evals, key=lambda r: (r["test_accuracy"], r["step"]))
    arguments = ["--mode=eval", f"--checkpoint={which}", "--config.train.epochs=12"]
    assert command(trained, *arguments, "--config.eval.batch_size=14") == 0
    expected = best if which == "best" else evals[-1]
    out = capsys.readouterr().out
    assert f"checkpoint {expected['step']} " in out
    assert "360 test images" in out
    assert f"{100 * expected['test_accuracy']:.2f} %" in out


def test_eval_takes_the_runs_own_configuration(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained, "--mode=eval", "--config.eval.batch_size=100") == 0
    assert "train       epochs=12  " in capsys.readouterr().out
    assert command(trained, "--mode=eval", "--config=digits") == 2
    assert "config.train.epochs was 12 and is now 30" in capsys.readouterr().err


def test_eval_changes_nothing(trained: Path) -> None:
    """A run may be saving a checkpoint at the same time."""
    half = trained / "checkpoints" / "999.orbax-checkpoint-tmp"
    half.mkdir()
    before = sorted(trained.rglob("*"))
    assert command(trained, "--mode=eval") == 0
    assert sorted(trained.rglob("*")) == before
    half.rmdir()


def test_a_damaged_checkpoint_is_named_and_can_be_done_without(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    every = "--config.checkpoint.every_steps=10"
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in newest.rglob("*"):
        if file.is_file() and "d" in file.parent.parts:
            file.write_bytes(file.read_bytes()[:10])
    assert command(run, "--mode=eval") == 0
    assert f"checkpoint {newest.name} is damaged: {newest}/state/" in capsys.readouterr().out
    assert command(run, "--mode=eval", f"--checkpoint={newest.name}") == 2
    assert f"checkpoint {newest.name} is damaged: {newest}/state/" in capsys.readouterr().err
    assert command(run, *SMALL, every) == 0
    assert (run / "checkpoints" / "damaged" / newest.name).is_dir()
    assert records(run) == records(uninterrupted)
