"""A configuration as text for people and as JSON for a run's folder, and what two differ in."""

import json
import shlex
import textwrap
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config import shipped
from mgnet_jax.config.key import ConfigError
from mgnet_jax.config.table import KEYS, check_name, default, flatten

RESUMABLE = (
    *("log.", "eval.", "checkpoint.", "supervise.", "model.unroll", "train.sharding", "name"),
    *("data.dir", "data.verify", "data.workers", "data.threads", "data.prefetch"),
)
"""Keys (or beginnings of keys) that a continued run may change: its result stays the same."""


CHANGEABLE = ("optim.", "train.on_nonfinite", "train.most_", "train.label_smoothing")
"""Keys (or beginnings of keys) that a run may go on with other values of, if that is asked for."""


WIDTH = 79  # of what people read


def to_text(config: ConfigDict) -> str:
    """The configuration for people: `key = value  # meaning`, a long meaning on lines below it."""
    lines, flat = [], flatten(config)
    for name in KEYS:
        value = flat[name]
        short = f"{f'{name} = {value!r}':<30}  # {KEYS[name].meaning}"
        if len(short) <= WIDTH:
            lines.append(short)
            continue
        indent = "    # "
        meaning = textwrap.fill(
            KEYS[name].meaning, WIDTH, initial_indent=indent, subsequent_indent=indent
        )
        lines += [f"{name} = {value!r}", meaning]
    return "\n".join(lines)


def changed(config: ConfigDict) -> dict[str, Any]:
    """The keys of a configuration that have not their default, {"section.key": value}."""
    flat = flatten(config)
    return {name: flat[name] for name, key in KEYS.items() if flat[name] != key.default}


def changed_text(config: ConfigDict) -> str:
    """What of a configuration is not the default, a few keys a line, by section."""
    sections: dict[str, list[str]] = {}
    for name, value in changed(config).items():
        section, _, key = name.rpartition(".")
        sections.setdefault(section, []).append(f"{key}={value!r}")
    lines = []
    for section, words in sections.items():
        text, indent = "  ".join(words), " " * 12
        lines.append(
            textwrap.fill(
                text,
                WIDTH,
                initial_indent=f"{section or 'run':<12}",
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def from_json(text: str) -> ConfigDict:
    """The configuration that a run saved as JSON; keys that came later have their defaults.

    Raises:
      ConfigError: the text is none, or has a key that there is no longer.
    """
    try:
        saved = json.loads(text)
        if not isinstance(saved, dict):
            raise ValueError("it holds no keys")
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the saved config.json cannot be read ({error})") from None
    config = default()
    for name, value in saved.items():
        check_name(name)
        try:
            config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the saved config.json has config.{name}={value!r}: {error}"
            ) from None
    return config


def differences(old: ConfigDict, new: ConfigDict, but: tuple[str, ...] = RESUMABLE) -> list[str]:
    """What changes the result between a saved configuration and this one, a line a key.

    Args:
      old: the saved one.
      new: this one.
      but: keys, or beginnings of keys, that are not looked at.
    """
    before, now = flatten(old), flatten(new)
    return [
        f"config.{name} was {before[name]!r} and is now {now[name]!r}"
        for name in KEYS
        if before[name] != now[name] and not name.startswith(but)
    ]


def resumed(old: ConfigDict, new: ConfigDict) -> ConfigDict:
    """The old configuration with what a continued run may change as in the new one."""
    config, now = old.copy_and_resolve_references(), flatten(new)
    config.update_from_flattened_dict({k: now[k] for k in KEYS if k.startswith(RESUMABLE)})
    return config


def repeating(config: ConfigDict) -> str:
    """The command that trains with a configuration, from the config file of its data set.

    Folders are those of the machine that it was trained on.
    """
    name = config.data.name if config.data.name in shipped.files() else next(iter(shipped.files()))
    usual, wanted = flatten(shipped.load(name)), flatten(config)
    flags = []
    for key, value in wanted.items():
        if value != usual.get(key):
            text = ",".join(map(str, value)) + "," if isinstance(value, tuple) else str(value)
            flags.append(shlex.quote(f"--config.{key}={text}"))
    return " \\\n    ".join([f"python -m mgnet_jax.main --config={name}", *flags])
