"""A run that was broken off, for attacks on what it left."""

from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, command

from mgnet_jax.training.checkpoint import Checkpoints

EVERY = (*SMALL, "--config.checkpoint.every_steps=10")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of compiled programs, so that all runs here together compile once."""
    return tmp_path_factory.getbasetemp() / "programs"


@pytest.fixture(scope="session")
def broken_off(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 44 steps 30 are done; there are checkpoints of the steps 22 and 30."""
    workdir = tmp_path_factory.mktemp("broken") / "run"
    save = Checkpoints.save

    class Killed(BaseException):
        pass

    def dying(checkpoints: Checkpoints, state: Any, facts: Any) -> None:
        save(checkpoints, state, facts)
        if facts.step == 30:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", dying)
        command(workdir, *EVERY, f"--jit_cache={programs}")
    (workdir / ".lock").unlink(missing_ok=True)
    return workdir
