"""A configuration with some keys changed, to whatever a test asks for."""

from collections.abc import Callable
from typing import Any

import pytest

from mgnet_jax.config import default


def change(changes: dict[str, Any]) -> Any:
    config = default()
    with config.unlocked():
        for name, value in changes.items():
            config.update_from_flattened_dict({name: None})
            place, _, leaf = name.rpartition(".")
            (config[place] if place else config)[leaf] = value
    return config


@pytest.fixture(scope="session")
def changed() -> Callable[[dict[str, Any]], Any]:
    """The defaults with some keys changed, {"section.key": value}."""
    return change
