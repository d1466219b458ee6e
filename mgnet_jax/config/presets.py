"""Presets of config files."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError
from mgnet_jax.config.table import check_name, default


def from_preset(presets: Mapping[str, Mapping[str, Any]], preset: str) -> ConfigDict:
    """A configuration: the defaults with one of a config file's presets put in.

    Args:
      presets: {preset: {"section.key": value}}.
      preset: which, as in `--config=FILE:PRESET`.

    Raises:
      ConfigError: there is no such preset, or it has an unknown key.
    """
    if preset not in presets:
        group = any(name.startswith(f"{preset}-") for name in presets)
        near = [] if group else difflib.get_close_matches(preset, presets, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown preset {preset!r}; {hint}there are {listing(presets, preset)}")
    for name in presets[preset]:
        check_name(name)
    config = default()
    config.update_from_flattened_dict(presets[preset])
    return config


def listing(presets: Iterable[str], asked: str) -> str:
    """The names of presets for people: a group alone if it is asked for, else each group as one.

    >>> listing(["small", "table3-a", "table3-b"], "smal")
    'small, 2 of table3-... (table3 lists them)'
    >>> listing(["small", "table3-a", "table3-b"], "table3")
    'table3-a, table3-b'
    """
    groups: dict[str, list[str]] = {}
    for name in presets:
        groups.setdefault(name.partition("-")[0], []).append(name)
    several = [group for group, names in groups.items() if len(names) > 1]
    if asked in several:
        return ", ".join(groups[asked])
    words = [
        f"{len(names)} of {group}-..." if group in several else group
        for group, names in groups.items()
    ]
    if several:
        meant = next((group for group in several if asked.startswith(group)), several[0])
        words[-1] += f" ({meant} lists them)"
    return ", ".join(words)
