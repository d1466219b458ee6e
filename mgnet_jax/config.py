"""The configuration: every key with its default and its meaning, and `validate`.

A file in configs/ starts from `default()` and changes what it needs. `validate` checks a whole
configuration before any work starts and turns it into what the rest of the package reads.
"""

import dataclasses
import difflib
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.data import sources
from mgnet_jax.models import CHOICES, MgNetSpec, ModelError, modify, parse


class ConfigError(Exception):
    """A configuration cannot be run; the message names the key, its value and the fix.

    Not a ValueError: config_flags would wrap one that a config file raises into a traceback.
    """


@dataclasses.dataclass(frozen=True)
class Key:
    """One key: its default, which fixes its type; what it means; and what values it may have."""

    default: Any
    meaning: str
    allowed: Callable[[Any], bool] = lambda value: True
    range: str = ""


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Key:
    return Key(default, meaning, lambda v: v in choices, "one of " + ", ".join(map(repr, choices)))


def _at_least(low: int, default: int, meaning: str) -> Key:
    fits = lambda v: low <= v < 2**32  # noqa: E731
    return Key(default, meaning, fits, f"a whole number >= {low} and < 2**32")


def _within(low: float, high: float, default: float, meaning: str) -> Key:
    """A number in [low, high)."""
    return Key(default, meaning, lambda v: low <= v < high, f"a number >= {low:g} and < {high:g}")


INFINITY = float("inf")

KEYS: dict[str, Key] = {
    "name": Key(
        "",
        "of the run; its files go to runs/<name> unless --workdir is given",
        lambda v: not set(v) & set("/\\") and not v.startswith("."),
        "a name without / or \\ that does not start with a dot",
    ),
    "seed": _at_least(0, 0, "of the initial weights, the order of the images, and augmentation"),
    "data.name": _choice("digits", tuple(sources.INFO), "data set"),
    "data.dir": Key("", "folder of its files; empty: $MGNET_DATA"),
    "data.source": _choice("files", ("files", "tfds"), "published files, or tensorflow-datasets"),
    "data.validation": _at_least(
        0, 0, "training images held out; if any, they and never the test set choose the best epoch"
    ),
    "data.crop_padding": _at_least(
        0, 4, "zero pixels around an image before a random crop; 0: none"
    ),
    "data.flip": Key(True, "random horizontal flips"),
    "model.spec": Key("MgNet[2,2,2,2]-[256]-B^l", "network in the paper's notation"),
    "model.nu": Key((), "smoothing steps, one number a grid; (): as in model.spec"),
    "model.channels": Key((), "channels or (c_u, c_f) of each grid; (): as in model.spec"),
    "model.B": Key("", "'B^l' or 'B^{l,i}'; empty: as in model.spec"),
    "model.stem": _choice("cifar", CHOICES["stem"], "first layers: 'cifar' is MNIST's too"),
    "model.form": _choice("dual", CHOICES["form"], "Theorem 4.1, or Algorithm 2; same function"),
    "model.unroll": _at_least(1, 4, "grids with more smoothing steps are compiled as a loop"),
    "model.remat": Key(False, "recompute activations in the backward pass, to save memory"),
    "model.dtype": _choice("float32", CHOICES["dtype"], "of the activations"),
    "model.initializer": _choice("kaiming", CHOICES["initializer"], "the paper's, or PyTorch's"),
    "train.epochs": _at_least(1, 150, "epochs"),
    "train.batch_size": _at_least(1, 128, "images of one optimiser step, over all devices"),
    "train.accumulate": _at_least(
        1, 1, "parts of a batch whose gradients are averaged one after the other, to save memory"
    ),
    "train.label_smoothing": _within(0, 1, 0.0, "probability spread over all classes"),
    "train.ema_decay": _within(0, 1, 0.0, "of averaged weights, which are then scored; 0: none"),
    "optim.learning_rate": _within(0, INFINITY, 0.1, "peak learning rate"),
    "optim.momentum": _within(0, 1, 0.9, "momentum"),
    "optim.nesterov": Key(False, "Nesterov's momentum"),
    "optim.weight_decay": _within(0, INFINITY, 5e-4, "added to the gradient, times the weight"),
    "optim.decay_mask": _choice(
        "all", ("all", "kernels"), "what decays: all as in PyTorch, or not batch norms and biases"
    ),
    "optim.schedule": _choice("step", ("step", "cosine", "constant"), "of the learning rate"),
    "optim.step_epochs": _at_least(1, 30, "epochs between drops, schedule 'step'"),
    "optim.step_factor": _within(0, 1, 0.1, "of a drop, schedule 'step'"),
    "optim.warmup_epochs": _within(0, INFINITY, 0.0, "epochs of linear warm-up, any schedule"),
    "eval.batch_size": _at_least(1, 512, "images scored at once; no effect on the result"),
    "eval.every_epochs": _at_least(1, 1, "epochs between scores; the last is always scored"),
    "checkpoint.every_steps": _at_least(0, 0, "steps between checkpoints within epochs; 0: none"),
    "checkpoint.keep": _at_least(1, 2, "newest checkpoints kept; the best one is kept besides"),
    "log.every_steps": _at_least(1, 50, "steps of one compiled call, and of one progress record"),
    "log.tensorboard": Key(False, "also write TensorBoard events; needs tensorboardX"),
}
"""Every key there is, in the order in which it is printed."""

RESUMABLE = ("log.", "eval.", "checkpoint.", "data.dir", "model.unroll", "name")
"""Keys (or beginnings of keys) that a continued run may change: its result stays the same."""


ALIASES = {"lr": "learning_rate", "wd": "weight_decay", "model": "spec", "dataset": "name"}
"""Names that other programs have for the last part of a key."""


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
    hint = ([key for key in KEYS if key.rpartition(".")[2] == leaf]
            or difflib.get_close_matches(f"{section}.{leaf}", KEYS, 1, cutoff=0.6))  # fmt: skip
    meant = f"; did you mean config.{hint[0]}?" if hint else f"; there are {', '.join(KEYS)}"
    raise ConfigError(f"unknown key config.{name}{meant}")


def validate(config: ConfigDict, devices: int = 1) -> MgNetSpec:
    """Checks every key for name, type and range, and the keys against each other.

    Args:
      config: a configuration from a config file, with any overrides.
      devices: devices that a batch is split over.

    Returns:
      The network's spec, model.nu, model.channels and model.B put in.

    Raises:
      ConfigError: naming the key, the value and the fix.
    """
    flat = flatten(config)
    for name in flat:
        check_name(name)
    for name, key in KEYS.items():
        if name not in flat:
            raise ConfigError(f"config.{name} is missing; start the config from config.default()")
        _check_value(name, key, flat[name])
    if flat["log.tensorboard"] and find_spec("tensorboardX") is None:
        raise ConfigError("config.log.tensorboard=True needs: pip install tensorboardX")
    _check_batches(flat, devices)
    return _spec(flat)


def wrong_value(name: str, value: object) -> ConfigError:
    """The error of a key that cannot have this value."""
    words = {bool: "True or False", str: "text", tuple: "a tuple, as (2,2,2,2)"}
    key = KEYS[name]
    return ConfigError(f"config.{name}={value} must be {key.range or words[type(key.default)]}")


def _check_value(name: str, key: Key, value: Any) -> None:
    kind = type(key.default)
    number = kind is float and type(value) is int  # 1 is fine for 1.0
    if (not number and type(value) is not kind) or not key.allowed(value):
        raise wrong_value(name, repr(value))


def _check_batches(flat: Mapping[str, Any], devices: int) -> None:
    info = sources.INFO[flat["data.name"]]
    batch, parts = flat["train.batch_size"], flat["train.accumulate"]
    if batch % (parts * devices):
        raise ConfigError(
            f"config.train.batch_size={batch} must be divisible by config.train.accumulate={parts} "
            f"times {devices} devices; the nearest is "
            f"{max(1, round(batch / (parts * devices))) * parts * devices}"
        )
    held_out = flat["data.validation"]
    if batch + held_out > info.train_size:
        raise ConfigError(
            f"config.train.batch_size={batch} and config.data.validation={held_out} are together "
            f"more than the {info.train_size} training images of {info.name}"
        )
    if 0 < held_out < info.num_classes:
        raise ConfigError(
            f"config.data.validation={held_out} must be 0 or at least one image a class "
            f"({info.num_classes})"
        )
    if flat["data.crop_padding"] > min(info.image_shape[:2]):
        raise ConfigError(
            f"config.data.crop_padding={flat['data.crop_padding']} is larger than the images of "
            f"{info.name} {info.image_shape[:2]}"
        )
    if flat["optim.nesterov"] and not flat["optim.momentum"]:
        raise ConfigError("config.optim.nesterov=True needs config.optim.momentum > 0")
    if flat["optim.warmup_epochs"] >= flat["train.epochs"]:
        raise ConfigError(
            f"config.optim.warmup_epochs={flat['optim.warmup_epochs']} must be less than "
            f"config.train.epochs={flat['train.epochs']}; 0 is none"
        )


def _spec(flat: Mapping[str, Any]) -> MgNetSpec:
    try:
        spec = parse(flat["model.spec"])
    except ModelError as error:
        raise ConfigError(f"config.model.spec: {error}") from None
    try:
        return modify(spec, flat["model.nu"], flat["model.channels"], flat["model.B"])
    except ModelError as error:
        raise ConfigError(
            f"config.model.nu={flat['model.nu']}, config.model.channels={flat['model.channels']}, "
            f"config.model.B={flat['model.B']!r} do not fit {spec}: {error}"
        ) from None


def model_options(config: ConfigDict) -> dict[str, Any]:
    """The options of `models.create` in a configuration: what is not part of the spec."""
    spec_keys = ("spec", "nu", "channels", "B")
    return {key: value for key, value in config.model.items() if key not in spec_keys}


def to_text(config: ConfigDict) -> str:
    """The configuration, one `key = value  # meaning` a line, for people."""
    flat = flatten(config)
    width = max(len(f"{name} = {flat[name]!r}") for name in KEYS)
    return "\n".join(
        f"{f'{name} = {flat[name]!r}':<{width}}  # {key.meaning}" for name, key in KEYS.items()
    )


def to_json(config: ConfigDict) -> str:
    """The configuration as JSON, one key a line."""
    return json.dumps(flatten(config), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The configuration that `to_json` wrote; keys that came later have their defaults.

    Raises:
      ConfigError: the text is none, or has a key that there is no longer.
    """
    try:
        saved = dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the saved config.json cannot be read ({error})") from None
    config = default()
    for name, value in saved.items():
        check_name(name)
        config.update_from_flattened_dict({name: _tuples(value)})
    return config


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """What changes the result between a saved configuration and this one, a line a key."""
    before, now = flatten(old), flatten(new)
    return [
        f"config.{name} was {before[name]!r} and is now {now[name]!r}"
        for name in KEYS
        if before[name] != now[name] and not name.startswith(RESUMABLE)
    ]
