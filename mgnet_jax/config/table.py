"""The table of all keys: their names, their defaults, and a whole configuration by name."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key
from mgnet_jax.config.sections import data, general, init, model, optim, outcome, train

SECTIONS = (general, data, model, init, train, optim, outcome)
"""The files of the keys, in the order in which these are printed."""

KEYS: dict[str, Key] = {name: key for section in SECTIONS for name, key in section.KEYS.items()}
"""Every key there is, in the order in which it is printed."""

ALIASES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "dataset": "name",
    **dict.fromkeys(("model", "nu", "channels", "B"), "spec"),  # the notation says them
}
"""Names that people look for under the last part of a key."""


def default() -> ConfigDict:
    """A configuration with the default of every key."""
    config = ConfigDict()
    for name, key in KEYS.items():
        *sections, leaf = name.split(".")
        place = config
        for section in sections:
            if section not in place:
                place[section] = ConfigDict()
            place = place[section]
        place[leaf] = key.default
    return config


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as {"section.key": value}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def check_name(name: str) -> None:
    """Raises ConfigError with the nearest known name if there is no key of that name."""
    if name in KEYS:
        return
    section, _, leaf = name.rpartition(".")
    leaf = ALIASES.get(leaf, leaf)
    same = [key for key in KEYS if key.rpartition(".")[2] == leaf]
    hint = same or difflib.get_close_matches(f"{section}.{leaf}", KEYS, 1, cutoff=0.6)
    meant = f"; did you mean config.{hint[0]}?" if hint else f"; there are {', '.join(KEYS)}"
    raise ConfigError(f"unknown key config.{name}{meant}")
