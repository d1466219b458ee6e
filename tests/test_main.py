"""The command as people run it: a digits run that learns, goes on, and is scored."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import pytest

from mgnet_jax.config import ConfigError
from mgnet_jax.main import find_config, main

SMALL = ["--config.model.spec=MgNet[1,1]-[8]-B^l", "--config.train.epochs=2",
         "--config.optim.warmup_epochs=0.5"]  # fmt: skip


def command(workdir: Path, *arguments: str) -> int:
    return main(["main", "--jit_cache=", f"--workdir={workdir}", *arguments])


def records(workdir: Path) -> list[dict[str, Any]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    timed = ("images_per_second", "seconds")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default: MgNet on digits, shortened to 12 epochs."""
    workdir = tmp_path_factory.mktemp("digits")
    assert command(workdir, "--config.train.epochs=12", "--config.eval.every_epochs=4") == 0
    return workdir


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
    assert "train.epochs = 12" in capsys.readouterr().out
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


def newest_state(workdir: Path) -> Any:
    from mgnet_jax.training import checkpoint

    with checkpoint.open_checkpoints(workdir) as checkpoints:
        return checkpoints.restore(checkpoint.find(checkpoints))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("uninterrupted")
    assert command(workdir, *SMALL, "--config.checkpoint.every_steps=10") == 0
    return workdir


def test_a_broken_off_run_goes_on_to_the_same_result(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within the second epoch, the same command ends with the same numbers."""
    from mgnet_jax.training import checkpoint

    save = checkpoint.save

    class Killed(BaseException):
        pass

    def dying(checkpoints: Any, state: Any, score: float | None = None) -> None:
        save(checkpoints, state, score)
        if int(state.step) == 30:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", dying)
    with pytest.raises(Killed):
        command(tmp_path, *SMALL, "--config.checkpoint.every_steps=10")
    monkeypatch.setattr(checkpoint, "save", save)
    assert command(tmp_path, *SMALL, "--config.checkpoint.every_steps=10") == 0
    assert records(tmp_path) == records(uninterrupted)
    chex.assert_trees_all_equal(newest_state(tmp_path), newest_state(uninterrupted))


def test_a_signal_saves_the_state(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from mgnet_jax.training.job import Job

    train_steps = Job.train_steps

    def steps_and_signal(job: Job, state: Any, begin: int, end: int) -> Any:
        if begin == 10:
            signal.raise_signal(signal.SIGTERM)
        return train_steps(job, state, begin, end)

    monkeypatch.setattr(Job, "train_steps", steps_and_signal)
    every = "--config.checkpoint.every_steps=10"
    assert command(tmp_path, *SMALL, every) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 20, which is saved" in capsys.readouterr().err
    monkeypatch.setattr(Job, "train_steps", train_steps)
    assert command(tmp_path, *SMALL, every) == 0
    assert records(tmp_path) == records(uninterrupted)


def test_held_out_images_choose_the_best_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *SMALL, "--config.data.validation=100") == 0
    evals = [r for r in records(tmp_path) if r["kind"] == "eval"]
    assert all("validation_accuracy" in r and "test_accuracy" in r for r in evals)
    assert "best epoch, chosen on held-out images" in capsys.readouterr().out
    from mgnet_jax.training import checkpoint

    with checkpoint.open_checkpoints(tmp_path, 2) as checkpoints:
        best = max(evals, key=lambda r: (r["validation_accuracy"], r["step"]))
        assert checkpoint.find(checkpoints, "best") == best["step"]
        assert checkpoints.metrics(best["step"])["score"] == best["validation_accuracy"]


def test_all_options_together(tmp_path: Path) -> None:
    arguments = [
        "--config.model.spec=MgNet[1,1]-[(6,4),(8,5)]-B^{l,i}",
        "--config.model.dtype=float64", "--config.model.form=direct", "--config.model.remat=True",
        "--config.model.initializer=pytorch", "--config.train.accumulate=2",
        "--config.train.label_smoothing=0.1", "--config.train.ema_decay=0.9",
        "--config.optim.decay_mask=kernels", "--config.optim.schedule=step",
        "--config.optim.step_epochs=1", "--config.data.validation=37", "--config.data.flip=True",
        "--config.checkpoint.keep=1", "--config.eval.batch_size=33",
    ]  # fmt: skip
    assert command(tmp_path, *SMALL, *arguments) == 0
    assert newest_state(tmp_path)["params"]["level1"]["A"].dtype == "float64"
    assert records(tmp_path)[-1]["test_accuracy"] > 0.2


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mgnet_jax.training import steps

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


def test_summary_prints_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "none", "--mode=summary", "--config=cifar100") == 0
    out = capsys.readouterr().out
    for text in ("8,301,924", "3.603 GMAC", "MiB", "model.spec", "restrict3"):
        assert text in out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.model.spek=3"], "config.model.spek; did you mean config.model.spec?"),
        (["--config.model.nu=3,3"], "unknown key config.model.nu; did you mean config.model.spec?"),
        (["--config=cifar10:smal"], "unknown preset 'smal'; did you mean 'small'? there are paper"),
        (["--config=nope"], "no config file 'nope'; give a path, or one of cifar10, cifar100"),
        (["--config.model.spec=MgNet[2,x]-8-B^l"], "config.model.spec: model name not understood"),
        (["--config.train.epochs=abc"], "config.train.epochs=abc must be a whole number >= 1"),
        (["--config.model.remat=maybe"], "config.model.remat=maybe must be True or False"),
        (["--config.name=../x"], "config.name='../x' must be a name without /"),
        (["--checkpoint=best"], "--checkpoint is for --mode=eval"),
        (["--config.train.batch_size=15", "--config.train.accumulate=2"], "must be divisible"),
        (["--modes=train"], "modes"),
        (["train"], "unexpected argument 'train'"),
        (["--mode=eval"], "train first"),
        (["--config=cifar10"], "--config.data.dir"),
        (["--config.data.source=tfds"], "digits"),
    ],
)
def test_mistakes_are_messages(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("MGNET_DATA", raising=False)
    assert command(tmp_path / "run", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config(): return {'name': 'x'}", "must return an ml_collections.ConfigDict"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_config_file_that_fails_is_a_message(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert command(tmp_path / "run", f"--config={tmp_path / 'mine.py'}") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --config")
    assert words in error


# orbax leaves the coroutines of a failed restore to a closed event loop
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
    assert command(run, "--mode=eval") == 2
    error = capsys.readouterr().err
    assert f"checkpoint {newest} cannot be read" in error
    assert "there are" in error
    shutil.rmtree(newest)
    assert command(run, *SMALL, every) == 0
    assert records(run) == records(uninterrupted)


def test_too_large_a_network_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "--config.model.spec=MgNet[2,2,2]-[999999]-B^l") == 1
    assert "not enough memory" in capsys.readouterr().err
    # nothing holds the folder: another configuration may start there
    assert command(tmp_path, *SMALL) == 0


def test_help_shows_the_flags(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(tmp_path, "--help") == 0
    out = capsys.readouterr().out
    assert all(flag in out for flag in ("--config", "--mode", "--workdir", "--checkpoint"))


def test_it_runs_as_a_module_from_any_folder(tmp_path: Path) -> None:
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "mgnet_jax.main", "--mode=summary", "--config=configs/mnist.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "on mnist" in done.stdout


def test_configs_are_found_by_name_and_by_path(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("digits")).name == "digits.py"
    assert find_config("cifar10:small").endswith("cifar10.py:small")
    assert find_config("configs/mnist.py") == find_config("mnist")
    (tmp_path / "mine.py").touch()
    assert find_config("mine.py:a") == "mine.py:a"
    for missing in ("nope.py", "elsewhere/cifar10.py", "configs/more/cifar10.py"):
        with pytest.raises(ConfigError, match=f"no config file '{missing}'.*digits"):
            find_config(missing)


@pytest.mark.slow
def test_the_default_reaches_its_bar(tmp_path: Path) -> None:
    """98.0 % of the digits' test images, last epoch, with nothing but the command."""
    assert command(tmp_path) == 0
    assert records(tmp_path)[-1]["test_accuracy"] >= 0.98
