"""What is saved comes back, and what two configurations differ in is named."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mgnet_jax.config import ConfigError, default, differences, flatten, from_json

Changed = Callable[[dict[str, Any]], Any]


def test_only_what_changes_the_result_keeps_a_run_from_going_on(changed: Changed) -> None:
    old = default()
    same = changed({"log.every_steps": 7, "data.dir": "/x", "model.unroll": 1, "name": "other"})
    assert differences(old, same) == []
    other = changed(
        {"optim.learning_rate": 0.2, "model.spec": "MgNet[1]-[8]-B^l", "data.std": (0.5,)}
        | {"data.last_batch": "use", "optim.first_epoch": 1}
    )
    assert differences(old, other) == [
        "config.data.last_batch was 'drop' and is now 'use'",
        "config.data.std was () and is now (0.5,)",
        "config.model.spec was 'MgNet[2,2,2,2]-[256]-B^l' and is now 'MgNet[1]-[8]-B^l'",
        "config.optim.learning_rate was 0.1 and is now 0.2",
        "config.optim.first_epoch was 0 and is now 1",
    ]


def test_a_saved_configuration_comes_back_and_old_ones_get_defaults(changed: Changed) -> None:
    config = changed(
        {"model.spec": "MgNet[1]-[(4,2)]-B^{l,i}", "train.epochs": 7, "data.flip": False}
        | {"data.name": "cifar10", "data.mean": (0.1, 0.2, 1), "data.std": (0.5, 0.5, 0.25)}
    )
    assert from_json(json.dumps(flatten(config))) == config
    assert differences(from_json(json.dumps(flatten(config))), config) == []
    assert from_json('{"train.epochs": 7}') == changed({"train.epochs": 7})
    with pytest.raises(ConfigError, match=r"unknown key config.train.gone"):
        from_json('{"train.gone": 7}')
    for gone in ("nu", "channels", "B"):
        with pytest.raises(ConfigError, match=f"unknown key config.model.{gone}"):
            from_json(f'{{"model.{gone}": []}}')
    for text in ("", '{"train.epochs": ', "[1]"):
        with pytest.raises(ConfigError, match=r"config.json cannot be read"):
            from_json(text)
