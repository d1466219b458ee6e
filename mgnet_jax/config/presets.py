"""Presets of config files."""

import difflib
from collections.abc import Mapping
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
        near = difflib.get_close_matches(preset, presets, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown preset {preset!r}; {hint}there are {', '.join(presets)}")
    for name in presets[preset]:
        check_name(name)
    config = default()
    config.update_from_flattened_dict(presets[preset])
    return config
