"""A tracker gets the records that the metrics have, and its failures cost nothing."""

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from commands import command, records

SMALL = (
    "--config.model.spec=MgNet[1]-[4]-B^l",
    "--config.train.epochs=2",
    "--config.optim.warmup_epochs=0",
    "--config.log.project=mine",
)


class Calls:
    """What a module of that name is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, broken: str = "") -> None:
        self.all: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for function in ("init", "log", "finish"):
            setattr(module, function, self._function(function, broken))
        monkeypatch.setitem(sys.modules, name, module)

    def _function(self, name: str, broken: str) -> Any:
        def call(*arguments: Any, **named: Any) -> None:
            self.all.append((name, arguments, named))
            if name == broken:
                raise ConnectionError("no route")

        return call


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_it_gets_every_record(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, name)
    run = tmp_path / "run"
    assert command(run, *SMALL, f"--config.log.tracker={name}") == 0
    (first, _, options), *logs, (last, _, _) = calls.all
    assert (first, last) == ("init", "finish")
    assert (options["project"], options["name"]) == ("mine", "run")
    assert options["config"]["train.epochs"] == 2 and options["resume"] == "allow"
    assert ("id" in options) == (name == "wandb")
    written = [
        (
            r["step"],
            {f"{r['kind']}/{k}": v for k, v in r.items() if k not in ("kind", "step", "epoch")},
        )
        for r in records(run)
    ]
    timed = ("train/images_per_second", "train/seconds")
    got = [
        (named["step"], {k: v for k, v in values[0].items() if k not in timed})
        for _, values, named in logs
    ]
    assert got == written


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_its_failure_is_said_once_and_the_run_is_whole(
    broken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = Calls(monkeypatch, "wandb", broken)
    assert command(tmp_path / "run", *SMALL, "--config.log.tracker=wandb") == 0
    error = capsys.readouterr().err
    assert error.count("wandb takes no more records of this run: no route") == 1
    assert sum(name == broken for name, *_ in calls.all) == 1
    assert records(tmp_path / "run")[-1]["epoch"] == 2


def test_without_the_package_it_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "wandb" in sys.modules or importlib.util.find_spec("wandb"):
        pytest.skip("it is installed here")
    assert command(tmp_path / "run", *SMALL, "--config.log.tracker=wandb") == 2
    assert "config.log.tracker='wandb' needs: pip install wandb" in capsys.readouterr().err
