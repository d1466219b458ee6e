"""--mode=train: a digits run that learns, goes on to the same result, and says what is wrong."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import chex
import pytest
from commands import SMALL, command, newest_state, records

from mgnet_jax.data import sources
from mgnet_jax.models import ModelError
from mgnet_jax.training import steps
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.job import Job


def test_the_default_run_learns_and_leaves_its_files(trained: Path) -> None:
    last = records(trained)[-1]
    assert last["kind"] == "eval"
    assert last["epoch"] == 12
    assert last["test_accuracy"] >= 0.97
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records(trained))
    assert float(rows[-1]["test_accuracy"]) == last["test_accuracy"]
    assert json.loads((trained / "config.json").read_text())["train.epochs"] == 12
    assert {int(p.name) for p in (trained / "checkpoints").iterdir()} >= {11 * 22, 12 * 22}


def test_a_finished_run_says_so_and_does_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    assert command(trained, "--config.train.epochs=12", "--config.eval.every_epochs=4") == 0
    out = capsys.readouterr().out
    assert "This run is finished" in out
    assert "last epoch" in out
    assert "best epoch, chosen on the test set itself" in out
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()} == before


def test_a_damaged_configuration_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints" / "22").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"train.epochs"')
    assert command(tmp_path) == 2
    error = capsys.readouterr().err
    assert "config.json" in error
    assert "give another --workdir" in error


def test_a_workdir_that_is_a_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command(tmp_path / "file") == 2
    assert "file is a file; give a folder" in capsys.readouterr().err


def test_another_configuration_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("train", "eval"):
        assert command(trained, f"--mode={mode}", "--config.optim.learning_rate=0.2") == 2
        error = capsys.readouterr().err
        assert "config.optim.learning_rate was 0.1 and is now 0.2" in error
        assert "--workdir" in error


def test_a_broken_off_run_goes_on_to_the_same_result(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within the second epoch, the same command ends with the same numbers."""
    save = Checkpoints.save

    class Killed(BaseException):
        pass

    def dying(checkpoints: Checkpoints, state: Any, facts: Any) -> None:
        save(checkpoints, state, facts)
        if int(state.step) == 30:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", dying)
    with pytest.raises(Killed):
        command(tmp_path, *SMALL, "--config.checkpoint.every_steps=10")
    monkeypatch.setattr(Checkpoints, "save", save)
    assert command(tmp_path, *SMALL, "--config.checkpoint.every_steps=10") == 0
    assert records(tmp_path) == records(uninterrupted)
    chex.assert_trees_all_equal(newest_state(tmp_path), newest_state(uninterrupted))


LEFT_OVER = (  # 1,400 images, 5 batches of 256 and one of 120
    *("--config.data.last_batch=use", "--config.data.validation=37"),
    *("--config.train.batch_size=256", "--config.train.accumulate=2", "--config.log.every_steps=4"),
)


@pytest.mark.slow
def test_a_smaller_batch_ends_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped right before a smaller batch and within an epoch, the run ends with the same."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run = (*SMALL, *LEFT_OVER, "--config.checkpoint.every_steps=5", "--config.eval.every_epochs=1")
    assert command(whole, *run) == 0
    out = capsys.readouterr().out
    assert "6 steps an epoch, the last of 120 images compiled apart\ncompiled in" in out
    train = [r for r in records(whole) if r["kind"] == "train"]
    assert [r["step"] for r in train] == [4, 6, 8, 12]
    assert [r["epoch"] for r in train] == [step / 6 for step in (4, 6, 8, 12)]
    assert [r["epoch"] for r in records(whole) if r["kind"] == "eval"] == [1, 2]

    train_steps = Job.train_steps
    for last in (4, 8):  # the steps from there, to 5 and to 10, are the last before the signal

        def steps_and_signal(
            job: Job, state: Any, metrics: Any, begin: int, end: int, *rest: Any, last: int = last
        ) -> Any:
            if begin == last:
                signal.raise_signal(signal.SIGTERM)
            return train_steps(job, state, metrics, begin, end, *rest)

        monkeypatch.setattr(Job, "train_steps", steps_and_signal)
        assert command(broken, *run) == 128 + signal.SIGTERM
        monkeypatch.setattr(Job, "train_steps", train_steps)
    assert command(broken, *run) == 0
    assert records(broken) == records(whole)
    chex.assert_trees_all_equal(newest_state(broken), newest_state(whole))


def test_a_smaller_batch_that_cannot_be_split_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Published files may be cut: the sizes that validate knows are the full ones."""
    full = sources.load("digits")
    few = sources.ImageSet(full.train.images[:100], full.train.labels[:100])
    cut = sources.DataSet(full.info, few, full.test, full.class_names)
    monkeypatch.setattr(sources, "load", lambda *_, **__: cut)
    assert command(tmp_path / "run", *SMALL, *LEFT_OVER, "--config.train.batch_size=32") == 2
    error = capsys.readouterr().err
    assert "makes a batch of the 31 images left over of 63" in error
    assert error.endswith("config.data.validation=40\n")
    assert not (tmp_path / "run").exists()


def test_a_signal_saves_the_state(
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_steps = Job.train_steps

    def steps_and_signal(
        job: Job, state: Any, metrics: Any, begin: int, end: int, *rest: Any
    ) -> Any:
        if end == 13:  # a call may end anywhere: this one is within a record
            signal.raise_signal(signal.SIGTERM)
        return train_steps(job, state, metrics, begin, end, *rest)

    next_stop = Job.next_stop
    monkeypatch.setattr(Job, "train_steps", steps_and_signal)
    monkeypatch.setattr(Job, "next_stop", lambda *a: min(next_stop(*a), 13 if a[1] < 13 else 10**9))
    every = "--config.checkpoint.every_steps=10"
    assert command(tmp_path, *SMALL, every) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 13, which is saved" in capsys.readouterr().err
    monkeypatch.setattr(Job, "train_steps", train_steps)
    assert command(tmp_path, *SMALL, every) == 0
    assert records(tmp_path) == records(uninterrupted)
    chex.assert_trees_all_equal(newest_state(tmp_path), newest_state(uninterrupted))


def test_a_signal_while_scoring_leaves_it_to_the_next_start(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is saved at once; going on scores it first, and ends with the same."""
    score = Job.score

    def signal_and_score(job: Job, state: Any, stopped: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return score(job, state, stopped)

    every = "--config.checkpoint.every_steps=10"
    with monkeypatch.context() as patch:
        patch.setattr(Job, "score", signal_and_score)
        assert command(tmp_path, *SMALL, every) == 128 + signal.SIGINT
    assert [r["kind"] for r in records(tmp_path)] == ["train"] * 2
    assert command(tmp_path, *SMALL, every) == 0
    assert records(tmp_path) == records(uninterrupted)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.find().score is not None


def test_held_out_images_choose_the_best_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *SMALL, "--config.data.validation=100") == 0
    evals = [r for r in records(tmp_path) if r["kind"] == "eval"]
    assert all("validation_accuracy" in r and "test_accuracy" in r for r in evals)
    assert "best epoch, chosen on held-out images" in capsys.readouterr().out
    with Checkpoints(tmp_path) as checkpoints:
        best = max(evals, key=lambda r: (r["validation_accuracy"], r["step"]))
        found = checkpoints.find("best")
    assert (found.step, found.score) == (best["step"], best["validation_accuracy"])


@pytest.mark.slow
def test_all_options_together(tmp_path: Path) -> None:
    arguments = [
        "--config.model.spec=MgNet[1,1]-[(6,4),(8,5)]-B^{l,i}",
        "--config.model.dtype=float64",
        "--config.model.form=direct",
        "--config.model.remat=steps",
        "--config.model.initializer=pytorch",
        "--config.train.accumulate=2",
        "--config.train.label_smoothing=0.1",
        "--config.train.ema_decay=0.9",
        "--config.optim.decay_mask=kernels",
        "--config.optim.schedule=step",
        "--config.optim.step_epochs=1",
        "--config.data.validation=37",
        "--config.data.flip=True",
        "--config.checkpoint.keep=1",
        "--config.eval.batch_size=33",
    ]
    assert command(tmp_path, *SMALL, *arguments) == 0
    assert newest_state(tmp_path)["params"]["level1"]["A"].dtype == "float64"
    assert records(tmp_path)[-1]["test_accuracy"] > 0.2


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "all_finite", lambda tree: False)
    assert command(tmp_path, *SMALL) == 1
    assert "the weights are no longer finite in the steps up to 22" in capsys.readouterr().err
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config.optim.learning_rate=1e30", "--config.optim.warmup_epochs=0"]
    assert command(tmp_path, *SMALL, *arguments) == 1
    error = capsys.readouterr().err
    assert "the loss is nan" in error
    assert "config.optim.learning_rate=1e+30" in error


def test_too_large_a_network_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--config.model.spec=MgNet[2,2,2]-[999999]-B^l", "--config.supervise.require_memory=0")
    assert command(tmp_path, *flags) == 1
    assert "not enough memory" in capsys.readouterr().err
    # nothing holds the folder: another configuration may start there
    assert command(tmp_path, *SMALL) == 0


@pytest.mark.slow
def test_the_default_reaches_its_bar(tmp_path: Path) -> None:
    """98.0 % of the digits' test images, last epoch, with nothing but the command."""
    assert command(tmp_path) == 0
    assert records(tmp_path)[-1]["test_accuracy"] >= 0.98


def test_a_model_error_within_training_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job: Job, rng: object) -> None:
        raise ModelError("images must be of another shape")

    monkeypatch.setattr(Job, "_create_state", fail)
    assert command(tmp_path, *SMALL) == 2
    assert capsys.readouterr().err == "error: images must be of another shape\n"
