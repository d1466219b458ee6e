"""A machine with commands that stand in for others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from standins import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()
