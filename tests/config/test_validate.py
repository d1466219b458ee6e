"""Every mistake in a configuration is named, with its value and the fix, before any work."""

from collections.abc import Callable
from typing import Any

import pytest

from mgnet_jax import config as configuration
from mgnet_jax.config import KEYS, ConfigError, default, flatten, make_model, validate

Changed = Callable[[dict[str, Any]], Any]


def test_the_defaults_are_valid_and_complete() -> None:
    config = default()
    assert flatten(config).keys() == KEYS.keys()
    validate(config)
    assert str(make_model(config, validate(config)).spec) == "MgNet[2,2,2,2]-[256]-B^l"
    text = configuration.to_text(config)
    words = " ".join(text.replace("\n    # ", " ").split())
    assert all(f"{name} = " in words and key.meaning in words for name, key in KEYS.items())
    assert max(map(len, text.splitlines())) <= 79


def test_what_is_no_default_is_all_that_a_run_begins_with() -> None:
    config = default()
    assert configuration.changed_text(config) == ""
    config.seed, config.optim.momentum, config.data.std = 7, 0.5, (1.0,)
    config.model.spec = "MgNet[" + ",".join("1" * 40) + "]-[8]-B^l"
    lines = configuration.changed_text(config).splitlines()
    assert lines[:2] == ["run         seed=7", "data        std=(1.0,)"]
    assert lines[-1] == "optim       momentum=0.5"
    assert config.model.spec in lines[2]  # a name is not broken


def test_the_keys_stand_in_the_order_in_which_they_are_printed() -> None:
    lines = configuration.to_text(default()).splitlines()
    assert [x.split(" = ")[0] for x in lines if not x.startswith(" ")] == list(KEYS)
    sections = dict.fromkeys(name.partition(".")[0] for name in KEYS)
    assert (
        " ".join(sections) == "name seed data model init train optim eval checkpoint supervise log"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.spek": "x"}, "unknown key config.model.spek; did you mean config.model.spec?"),
        ({"model.nu": (2,)}, "unknown key config.model.nu; did you mean config.model.spec?"),
        ({"model.channels": (8,)}, "unknown key config.model.channels; did you mean config.model."),
        ({"model.B": "B^l"}, "unknown key config.model.B; did you mean config.model.spec?"),
        ({"optim.lr": 0.1}, "config.optim.lr; did you mean config.optim.learning_rate?"),
        ({"nonsense": 1}, "unknown key config.nonsense; there are name, seed, data.name"),
        ({"seed": 2**32}, "config.seed=4294967296 must be a whole number >= 0 and < 2**32"),
        ({"train.learning_rate": 0.1}, "did you mean config.optim.learning_rate?"),
        ({"train.epochs": 1.5}, "config.train.epochs=1.5 must be a whole number >= 1"),
        ({"train.epochs": 0}, "config.train.epochs=0 must be a whole number >= 1"),
        ({"train.epochs": True}, "config.train.epochs=True must be a whole number >= 1"),
        ({"data.flip": 1}, "config.data.flip=1 must be True or False"),
        ({"data.name": "cifar"}, "config.data.name='cifar' must be one of 'digits', 'mnist'"),
        ({"optim.momentum": 1.0}, "config.optim.momentum=1.0 must be a number >= 0 and < 1"),
        ({"optim.learning_rate": -0.1}, "config.optim.learning_rate=-0.1 must be a number >= 0"),
        ({"optim.learning_rate": float("nan")}, "config.optim.learning_rate=nan must be"),
        ({"optim.schedule": "poly"}, "config.optim.schedule='poly' must be one of 'step'"),
        ({"model.dtype": "fp16"}, "config.model.dtype='fp16' must be one of 'float32'"),
        ({"model.spec": ["x"]}, "config.model.spec=['x'] must be text"),
        ({"model.spec": "MgNet[2]"}, "config.model.spec: model name not understood"),
        ({"model.spec": "MgNet[2,x]-[8]-B^l"}, "config.model.spec: model name not understood"),
        ({"model.spec": "MgNet[2,2]-[8]-A^l"}, "config.model.spec: model name not understood"),
        ({"model.spec": "MgNet[1,2]-[1,2,3]-B^l"}, "config.model.spec: model name not understood"),
        (
            {"train.batch_size": 100, "train.accumulate": 3},
            "config.train.batch_size=100 must be divisible by config.train.accumulate=3",
        ),
        (
            {"train.batch_size": 1437, "data.validation": 10},
            "config.train.batch_size=1437 and config.data.validation=10",
        ),
        ({"data.validation": 9}, "config.data.validation=9 must be 0 or at least one"),
        (
            {"data.mean": (0.1, 0.2)},
            "config.data.mean=(0.1, 0.2) must have as many numbers as the images of digits have "
            "channels, 1, or be ()",
        ),
        ({"data.name": "cifar10", "data.std": (0.2,)}, "config.data.std=(0.2,) must have as many"),
        ({"data.std": (0.0,)}, "config.data.std=(0.0,) must be finite numbers > 0"),
        ({"data.std": (float("inf"),)}, "config.data.std=(inf,) must be finite numbers > 0"),
        ({"data.mean": (float("nan"),)}, "config.data.mean=(nan,) must be finite numbers, one a"),
        ({"data.mean": ("x",)}, "config.data.mean=('x',) must be finite numbers, one a channel"),
        ({"data.mean": (True,)}, "config.data.mean=(True,) must be finite numbers"),
        ({"data.mean": 0.5}, "config.data.mean=0.5 must be finite numbers"),
        ({"data.last_batch": "keep"}, "config.data.last_batch='keep' must be one of 'drop', 'use'"),
        ({"optim.first_epoch": 2}, "config.optim.first_epoch=2 must be 0 or 1"),
        ({"data.crop_padding": 9}, "config.data.crop_padding=9 is larger than the images"),
        (
            {"data.flip": False, "data.alternate_flips": True},
            "config.data.alternate_flips=True needs config.data.flip=True",
        ),
        ({"data.small_size": 6}, "config.data.small_size=6 and config.data.small_epochs=0: set"),
        (
            {"data.small_size": 8, "data.small_epochs": 1},
            "config.data.small_size=8 must be at least 4 and less than the images of digits (8, 8)",
        ),
        (
            {"data.small_size": 6, "data.small_epochs": 151},
            "config.data.small_epochs=151 is more than config.train.epochs=150",
        ),
        ({"optim.muon": -1.0}, "config.optim.muon=-1.0 must be a number >= 0"),
        ({"optim.nesterov": True, "optim.momentum": 0.0}, "config.optim.nesterov=True needs"),
        ({"optim.warmup_epochs": 150.0}, "config.optim.warmup_epochs=150.0 must be less than"),
    ],
)
def test_mistakes_are_named(changed: Changed, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(changes))
    assert words in str(caught.value)


def test_batches_must_fit_the_devices(changed: Changed) -> None:
    config = changed({"train.batch_size": 12, "train.accumulate": 2, "eval.batch_size": 7})
    with pytest.raises(ConfigError, match=r"train.batch_size=12 .* times 4 devices.* is 16"):
        validate(config, devices=4)
    validate(config, devices=3)


@pytest.mark.parametrize(
    ("held_out", "parts", "devices", "fix"),
    [(0, 1, 2, 11), (0, 2, 3, 15), (20, 1, 2, 21), (37, 5, 1, None), (0, 1, 1, None)],
)
def test_a_smaller_batch_must_fit_too(
    changed: Changed, held_out: int, parts: int, devices: int, fix: int | None
) -> None:
    """1,437 digits; what the message proposes is valid, and no fewer images held out are."""
    batch = {"train.batch_size": 30, "train.accumulate": parts, "data.last_batch": "use"}

    def try_with(**data: Any) -> None:
        validate(changed(batch | {f"data.{k}": v for k, v in data.items()}), devices)

    if fix is None:
        return try_with(validation=held_out)
    with pytest.raises(ConfigError) as caught:
        try_with(validation=held_out)
    left = (1437 - held_out) % 30
    assert f"batch of the {left} images left over of {1437 - held_out}" in str(caught.value)
    assert f"train.accumulate={parts} times {devices} devices" in str(caught.value)
    assert str(caught.value).endswith(f"config.data.validation={fix}")
    try_with(validation=fix)
    try_with(validation=held_out, last_batch="drop")
    for fewer in range(held_out, fix):
        with pytest.raises(ConfigError):
            try_with(validation=fewer)


def test_a_missing_key_is_named() -> None:
    config = default()
    del config.train["epochs"]
    with pytest.raises(ConfigError, match=r"config.train.epochs is missing"):
        validate(config)


def test_a_whole_number_will_do_for_a_number(changed: Changed) -> None:
    validate(changed({"optim.learning_rate": 1}))


def test_the_network_is_that_of_the_notation_and_the_options(changed: Changed) -> None:
    options = {"stem": "imagenet", "form": "direct", "unroll": 2, "remat": "steps"}
    options |= {"dtype": "bfloat16", "initializer": "pytorch", "convolution": "xla"}
    config = changed(
        {"model.spec": "MgNet[1,2]-[8]-B^{l,i}", "data.name": "cifar100"}
        | {f"model.{name}": value for name, value in options.items()}
    )
    validate(config)
    model = make_model(config, validate(config))
    assert str(model.spec) == "MgNet[1,2]-[8]-B^{l,i}"
    assert model.num_classes == 100
    assert configuration.model_options(config) == options
    assert {name: getattr(model, name) for name in options} == options
