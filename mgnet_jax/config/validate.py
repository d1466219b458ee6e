"""Whether a configuration can be run, found out before any work starts."""

from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key
from mgnet_jax.config.sections.data import check_source
from mgnet_jax.config.table import KEYS, SECTIONS, check_name, flatten
from mgnet_jax.data import sets
from mgnet_jax.data.info import Info


def validate(config: ConfigDict, devices: int = 1, info: Info | None = None) -> Info:
    """Checks every key for name, type and range, and the keys against each other.

    Args:
      config: a configuration from a config file, with any overrides.
      devices: devices that a batch is split over.
      info: the data set, if it is known better than from looking for it.

    Returns:
      What is known of the data set.

    Raises:
      ConfigError: naming the key, the value and the fix.
      DataError: there is no such data set.
    """
    flat = flatten(config)
    for name in flat:
        check_name(name)
    for name, key in KEYS.items():
        if name not in flat:
            raise ConfigError(f"config.{name} is missing; start the config from config.default()")
        _check_value(name, key, flat[name])
    check_source(config)
    info = info or sets.describe(config.data)
    for section in SECTIONS:
        section.check(config, info, devices)
    return info


def wrong_value(name: str, value: object) -> ConfigError:
    """The error of a key that cannot have this value."""
    words = {bool: "True or False", str: "text"}
    key = KEYS[name]
    return ConfigError(f"config.{name}={value} must be {key.range or words[type(key.default)]}")


def _check_value(name: str, key: Key, value: Any) -> None:
    kind = type(key.default)
    number = kind is float and type(value) is int  # 1 is fine for 1.0
    if (not number and type(value) is not kind) or not key.allowed(value):
        raise wrong_value(name, repr(value))
