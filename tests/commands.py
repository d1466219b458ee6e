"""The command line as tests run it, and what a run leaves."""

import json
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest

from mgnet_jax.main import main
from mgnet_jax.training.checkpoint import Checkpoints

SMALL = (
    "--config.model.spec=MgNet[1,1]-[8]-B^l",
    "--config.train.epochs=2",
    "--config.optim.warmup_epochs=0.5",
)


def command(workdir: Path, *arguments: str) -> int:
    return main(["main", f"--workdir={workdir}", *arguments])


class Killed(BaseException):
    """Ends a run at once."""


def killed_after(workdir: Path, step: int, *arguments: str) -> None:
    """A run that ends when it has saved a step."""
    save = Checkpoints.save

    def dying(checkpoints: Checkpoints, state: Any, facts: Any) -> None:
        save(checkpoints, state, facts)
        if facts.step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", dying)
        command(workdir, *arguments)
    (workdir / ".lock").unlink(missing_ok=True)


def records_with_times(workdir: Path) -> list[dict[str, Any]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def records(workdir: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "seconds")
    found = records_with_times(workdir)
    return [{k: v for k, v in record.items() if k not in timed} for record in found]


def newest_state(workdir: Path) -> Any:
    with Checkpoints(workdir) as checkpoints, ocp.StandardCheckpointer() as reader:
        newest = checkpoints.find()
        return reader.restore(checkpoints.folder / str(newest.step) / "state")
