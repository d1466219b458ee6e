"""Every config file and preset is valid and says how to run it."""

from pathlib import Path
from typing import Any

import pytest

from mgnet_jax.config import ConfigError, make_model, validate
from mgnet_jax.data.sources import INFO
from mgnet_jax.models import count

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_and_preset_is_valid_and_says_how_to_run_it(path: Path) -> None:
    module: dict[str, Any] = {}
    exec(path.read_text(), module)
    assert module["get_config"]() == module["get_config"](next(iter(module["PRESETS"])))
    for preset in module["PRESETS"]:
        config = module["get_config"](preset)
        assert config.name
        info = INFO[config.data.name]
        validate(config)
        parameters = count(make_model(config), info.image_shape).parameters
        assert f"{parameters:,} parameters" in module["__doc__"]
    names = [module["get_config"](preset).name for preset in module["PRESETS"]]
    assert len(set(names)) == len(names), "presets would share a folder of runs/"
    assert "python -m mgnet_jax.main" in module["__doc__"]
    with pytest.raises(
        ConfigError, match=f"unknown preset 'nope'.*{next(iter(module['PRESETS']))}"
    ):
        module["get_config"]("nope")
