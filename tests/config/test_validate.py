"""Every mistake in a configuration is named, with its value and the fix, before any work."""

from pathlib import Path
from typing import Any

import pytest

from mgnet_jax import config as configuration
from mgnet_jax.config import (
    KEYS,
    ConfigError,
    default,
    differences,
    flatten,
    from_json,
    to_json,
    validate,
)
from mgnet_jax.data.sources import INFO
from mgnet_jax.main import find_config
from mgnet_jax.models import create

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


def changed(changes: dict[str, Any]) -> Any:
    config = default()
    with config.unlocked():
        for name, value in changes.items():
            config.update_from_flattened_dict({name: None})
            place, _, leaf = name.rpartition(".")
            (config[place] if place else config)[leaf] = value
    return config


def test_the_defaults_are_valid_and_complete() -> None:
    config = default()
    assert flatten(config).keys() == KEYS.keys()
    assert str(validate(config)) == "MgNet[2,2,2,2]-[256]-B^l"
    text = configuration.to_text(config)
    assert all(f"{name} = " in text and key.meaning in text for name, key in KEYS.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.nuu": (2,)}, "unknown key config.model.nuu; did you mean config.model.nu?"),
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
        ({"model.nu": [2]}, "config.model.nu=[2] must be a tuple"),
        ({"model.nu": (2, "x")}, "config.model.nu=(2, 'x')"),
        ({"model.B": "A^l"}, "config.model.B='A^l'"),
        ({"model.spec": "MgNet[2]"}, "config.model.spec: model name not understood"),
        ({"train.batch_size": 100, "train.accumulate": 3},
         "config.train.batch_size=100 must be divisible by config.train.accumulate=3"),
        ({"train.batch_size": 1437, "data.validation": 10},
         "config.train.batch_size=1437 and config.data.validation=10"),
        ({"data.validation": 9}, "config.data.validation=9 must be 0 or at least one"),
        ({"data.crop_padding": 9}, "config.data.crop_padding=9 is larger than the images"),
        ({"optim.nesterov": True, "optim.momentum": 0.0}, "config.optim.nesterov=True needs"),
        ({"optim.warmup_epochs": 150.0}, "config.optim.warmup_epochs=150.0 must be less than"),
    ],
)  # fmt: skip
def test_mistakes_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(changes))
    assert words in str(caught.value)


def test_batches_must_fit_the_devices() -> None:
    config = changed({"train.batch_size": 12, "train.accumulate": 2, "eval.batch_size": 7})
    with pytest.raises(ConfigError, match=r"train.batch_size=12 .* times 4 devices.* is 16"):
        validate(config, devices=4)
    assert validate(config, devices=3)


def test_a_missing_key_is_named() -> None:
    config = default()
    del config.train["epochs"]
    with pytest.raises(ConfigError, match=r"config.train.epochs is missing"):
        validate(config)


def test_a_whole_number_will_do_for_a_number() -> None:
    assert validate(changed({"optim.learning_rate": 1}))


def test_parts_of_the_spec_can_be_overridden() -> None:
    config = changed({"model.nu": (1, 2), "model.channels": (8,), "model.B": "B^{l,i}"})
    assert str(validate(config)) == "MgNet[1,2]-[8]-B^{l,i}"


def test_only_what_changes_the_result_keeps_a_run_from_going_on() -> None:
    old = default()
    same = changed({"log.every_steps": 7, "data.dir": "/x", "model.unroll": 1, "name": "other"})
    assert differences(old, same) == []
    other = changed({"optim.learning_rate": 0.2, "model.nu": (1, 1)})
    assert differences(old, other) == [
        "config.model.nu was () and is now (1, 1)",
        "config.optim.learning_rate was 0.1 and is now 0.2",
    ]


def test_a_saved_configuration_comes_back_and_old_ones_get_defaults() -> None:
    config = changed({"model.channels": (8, (4, 2)), "train.epochs": 7, "model.B": "B^{l,i}"})
    assert from_json(to_json(config)) == config
    assert from_json('{"train.epochs": 7}') == changed({"train.epochs": 7})
    with pytest.raises(ConfigError, match=r"unknown key config.train.gone"):
        from_json('{"train.gone": 7}')
    for text in ("", '{"train.epochs": ', "[1]"):
        with pytest.raises(ConfigError, match=r"config.json cannot be read"):
            from_json(text)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_and_preset_is_valid_and_says_how_to_run_it(path: Path) -> None:
    module: dict[str, Any] = {}
    exec(path.read_text(), module)
    assert module["get_config"]() == module["get_config"](next(iter(module["PRESETS"])))
    for preset in module["PRESETS"]:
        config = module["get_config"](preset)
        assert config.name
        info = INFO[config.data.name]
        model = create(validate(config), info.num_classes, config.model.stem)
        parameters = sum(part.parameters for part in model.count_parts(info.image_shape))
        assert f"{parameters:,} parameters" in module["__doc__"]
    names = [module["get_config"](preset).name for preset in module["PRESETS"]]
    assert len(set(names)) == len(names), "presets would share a folder of runs/"
    assert "python -m mgnet_jax.main" in module["__doc__"]
    with pytest.raises(
        ConfigError, match=f"unknown preset 'nope'.*{next(iter(module['PRESETS']))}"
    ):
        module["get_config"]("nope")


def test_configs_are_found_by_name_and_by_path(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("digits")).name == "digits.py"
    assert find_config("cifar10:small").endswith("cifar10.py:small")
    assert find_config("configs/mnist.py") == find_config("mnist")
    (tmp_path / "mine.py").touch()
    assert find_config("mine.py:a") == "mine.py:a"
    for missing in ("nope.py", "elsewhere/cifar10.py", "configs/more/cifar10.py"):
        with pytest.raises(ConfigError, match=f"no config file '{missing}'.*digits"):
            find_config(missing)
