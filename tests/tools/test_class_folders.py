"""Training on a folder of photographs for each class, as a person would."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import chex
import pytest
from commands import command, newest_state, records
from photos import write_classes

from mgnet_jax.data import sets
from mgnet_jax.training import measures
from mgnet_jax.training.job import Job

COMMON = (
    *("--config.data.name=photographs", "--config.data.source=folder"),
    *("--config.data.crop_padding=0", "--config.data.image_size=8", "--config.train.batch_size=8"),
    *("--config.model.spec=MgNet[1]-[4]-B^l", "--config.train.epochs=3"),
    *("--config.optim.warmup_epochs=0", "--config.log.every_steps=3", "--config.eval.batch_size=6"),
    *("--config.eval.every_epochs=2", "--config.log.measures=top5,grad_norm"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_classes(root / "train", {"b": 20, "a": 13, "c": 12})
    return write_classes(root / "val", {"a": 4, "b": 5, "c": 4}).parent


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on it that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    assert command(workdir, *COMMON, f"--config.data.dir={folder}") == 0
    return workdir


def test_a_run_keeps_what_it_needs_of_its_data(whole: Path, folder: Path) -> None:
    data = json.loads((whole / "data.json").read_text())
    assert data["class_names"] == ["a", "b", "c"] and data["num_classes"] == 3
    assert (data["train_size"], data["test_size"], data["image_shape"]) == (45, 13, [8, 8, 3])
    header, *rows = (whole / "metrics.csv").read_text().splitlines()
    assert header.endswith("waiting,top5,test_top5,grad_norm") and len(rows) == 7 + 2
    train, evals = ([r for r in records(whole) if r["kind"] == k] for k in ("train", "eval"))
    assert [r["step"] for r in train] == [3, 5, 6, 9, 10, 12, 15]
    assert all(r["grad_norm"] > 0 and r["top5"] == 1 and 0 <= r["waiting"] <= 1 for r in train)
    assert [r["epoch"] for r in evals] == [2, 3] and all(r["test_top5"] == 1 for r in evals)


def without_waiting(workdir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "waiting"} for r in records(workdir)]


def test_a_stopped_run_goes_on_to_the_same_with_other_readers(
    whole: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_steps = Job.train_steps

    def steps_and_signal(
        job: Job, state: Any, metrics: Any, begin: int, end: int, *rest: Any
    ) -> Any:
        if begin == 7:
            signal.raise_signal(signal.SIGTERM)
        return train_steps(job, state, metrics, begin, end, *rest)

    run = (*COMMON, f"--config.data.dir={folder}")
    monkeypatch.setattr(Job, "train_steps", steps_and_signal)
    assert command(tmp_path, *run) == 128 + signal.SIGTERM
    monkeypatch.setattr(Job, "train_steps", train_steps)
    assert command(tmp_path, *run, "--config.data.threads=3", "--config.data.prefetch=1") == 0
    assert without_waiting(tmp_path) == without_waiting(whole)
    chex.assert_trees_all_equal(newest_state(tmp_path), newest_state(whole))


def copy_with(folder: Path, copy: Path, file: str, damage: slice) -> tuple[Path, bytes]:
    """A copy in which one file has lost what `damage` does not keep: the file, and what it was."""
    shutil.copytree(folder, copy)
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[damage])
    return copy / file, content


def test_a_photograph_that_cannot_be_read_costs_no_work(
    whole: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, the steps before it are saved, and with it mended the run ends the same."""
    one, content = copy_with(folder, tmp_path / "copy", "train/b/003.jpg", slice(200))
    run = (*COMMON, f"--config.data.dir={tmp_path / 'copy'}")
    assert command(tmp_path / "run", *run) == 2
    error = capsys.readouterr().err
    assert str(one) in error and "mend or remove it" in error and "Traceback" not in error
    steps = [int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")]
    assert steps and max(steps) == int(newest_state(tmp_path / "run")["step"])
    one.write_bytes(content)
    assert command(tmp_path / "run", *run) == 0
    assert without_waiting(tmp_path / "run") == without_waiting(whole)


def test_a_test_photograph_that_cannot_be_read_costs_no_work_either(
    whole: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = slice(-60)  # its header is whole
    one, content = copy_with(folder, tmp_path / "copy", "val/b/001.jpg", damage)
    run = (*COMMON, f"--config.data.dir={tmp_path / 'copy'}")
    assert command(tmp_path / "run", *run) == 2
    assert str(one) in capsys.readouterr().err
    assert int(newest_state(tmp_path / "run")["step"]) == 10  # the end of the epoch to be scored
    one.write_bytes(content)
    assert command(tmp_path / "run", *run) == 0
    assert without_waiting(tmp_path / "run") == without_waiting(whole)


def test_scoring_needs_no_training_images(
    whole: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        write_classes(tmp_path / "other" / part, {"a": 4, "b": 5, "c": 4})
    shutil.rmtree(tmp_path / "other" / "train")
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    sets._list_folders.cache_clear()
    assert command(workdir, "--mode=eval", f"--config.data.dir={tmp_path / 'other'}") == 0
    out = capsys.readouterr().out
    write_classes(tmp_path / "other" / "val", {"d": 1})
    sets._list_folders.cache_clear()
    assert command(workdir, "--mode=eval", f"--config.data.dir={tmp_path / 'other'}") == 2
    assert "class d" in capsys.readouterr().err
    accuracy = records(whole)[-1]["test_accuracy"]
    assert f"{100 * accuracy:.2f} %" in out and "13 test images" in out


def test_another_data_set_is_not_gone_on_with(
    whole: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(whole, workdir)
    write_classes(other / "train", {"a": 13, "b": 21, "c": 12})
    write_classes(other / "val", {"a": 4})
    assert command(workdir, *COMMON, "--config.train.epochs=4", f"--config.data.dir={other}") == 2
    assert "config.train.epochs was 3" in capsys.readouterr().err
    shutil.rmtree(workdir / "checkpoints" / "15")
    assert command(workdir, *COMMON, f"--config.data.dir={other}") == 2
    error = capsys.readouterr().err
    assert "another data set" in error and "train_size was 45 and is now 46" in error


def test_gray_photographs_without_a_test_folder(tmp_path: Path) -> None:
    """Ten of each class of 64x64 gray images; a part is the test, and some are held out."""
    root = write_classes(tmp_path / "gray", {"x": 20, "y": 20}, (64, 64))
    run = (
        *COMMON,
        f"--config.data.dir={root}",
        *("--config.data.image_size=16", "--config.data.channels=1", "--config.data.validation=4"),
        *("--config.data.test_share=0.2", "--config.data.last_batch=use"),
        *("--config.train.accumulate=2", "--config.train.epochs=1"),
    )
    workdir = tmp_path / "run"
    assert command(workdir, *run) == 0
    (last,) = (r for r in records(workdir) if r["kind"] == "eval")
    assert {"validation_accuracy", "test_accuracy", "validation_top5"} <= last.keys()
    data = json.loads((workdir / "data.json").read_text())
    assert (data["train_size"], data["test_size"], data["image_shape"]) == (32, 8, [16, 16, 1])
    assert data["mean"] == [0.449]
    assert command(workdir, "--mode=eval") == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.data.dir=/nowhere"], ["/nowhere is not a folder"]),
        ([], ["no folder is given", "--config.data.dir=FOLDER"]),
        (["--config.data.source=files"], ["'folder' for a folder of photographs", "'tfds'"]),
        (
            ["--config.log.measures=top6"],
            ["measures='top6'", "there is no 'top6'", "grad_norm"],
        ),
        (["--config.data.shorter_side=4"], ["shorter_side=4", "at least the size"]),
        (["--config.data.crop_area=0"], ["crop_area=0", "> 0 and <= 1"]),
    ],
)
def test_mistakes_are_named(
    folder: Path,
    arguments: list[str],
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MGNET_DATA", raising=False)
    place = (
        [] if arguments in ([], ["--config.data.dir=/nowhere"]) else [f"--config.data.dir={folder}"]
    )
    assert command(tmp_path / "run", *COMMON, *place, *arguments) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
    assert not (tmp_path / "run").exists()


def test_a_measure_of_ones_own_is_recorded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Registered, as a config file may; no part of the loop knows it."""
    import jax.numpy as jnp

    one = measures.Measure("margin", "image", lambda logits, labels: jnp.max(logits, -1), "largest")
    measures.register(one)
    try:
        run = (*COMMON, f"--config.data.dir={folder}", "--config.train.epochs=1")
        assert command(tmp_path, *run, "--config.log.measures=margin") == 0
    finally:
        del measures.MEASURES["margin"]
    train, last = records(tmp_path)[0], records(tmp_path)[-1]
    assert train["margin"] > 0 and "test_margin" in last
    assert re.search(r"epoch +1  test acc .* margin \d", capsys.readouterr().out)
