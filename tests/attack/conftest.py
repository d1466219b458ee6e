"""A run that was broken off, for attacks on what it left."""

from pathlib import Path

import pytest
from commands import SMALL, killed_after

EVERY = (*SMALL, "--config.checkpoint.every_steps=10")


@pytest.fixture(scope="session")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 44 steps 30 are done; there are checkpoints of the steps 22 and 30."""
    workdir = tmp_path_factory.mktemp("broken") / "run"
    killed_after(workdir, 30, *EVERY)
    return workdir
