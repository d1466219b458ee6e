"""What a run keeps of its data set, and what is refused of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mgnet_jax.config import ConfigError, default
from mgnet_jax.data import sources
from mgnet_jax.training.workdir import begin, keep, saved_config, saved_data, with_decoder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data = sources.load("digits")
    keep(begin(default(), data, "pillow", tmp_path), tmp_path)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    return tmp_path


def test_what_is_kept_is_read_again(run: Path) -> None:
    kept = saved_data(run)
    assert kept is not None and kept.decoder == "pillow"
    assert kept.info == sources.SETS["digits"].info
    assert kept.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_shape", [8, 8]),
        ("image_shape", "888"),
        ("mean", ["a"]),
        ("mean", [0.1, 0.2]),
        ("std", [0]),
        ("num_classes", "ten"),
        ("num_classes", 9),
        ("train_size", -1),
        ("class_names", [["a"]] * 10),
        ("class_names", None),
        ("strange", 1),
    ],
)
def test_facts_that_are_none_are_refused(run: Path, key: str, value: Any) -> None:
    content = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(ConfigError, match=r"data.json cannot be read .*; remove it"):
        saved_data(run)


def test_a_saved_configuration_with_a_value_of_another_type_is_refused(run: Path) -> None:
    content = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(content | {"data.image_size": "x"}))
    with pytest.raises(ConfigError, match=r"config.json: .*config.data.image_size='x'"):
        saved_config(run)


def test_a_run_goes_on_with_the_decoder_that_it_began_with(run: Path, tmp_path: Path) -> None:
    config = default()
    assert with_decoder(config, run).data.decoder == "pillow"
    assert config.data.decoder == "auto"
    config.data.decoder = "fast"
    assert with_decoder(config, run).data.decoder == "fast"  # asked for
    assert with_decoder(default(), tmp_path / "new").data.decoder == "auto"
