"""The presets of ImageNet: the paper's rows, with the counts and the recipe that it prints."""

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mgnet_jax.config import ConfigError, default, flatten, validate
from mgnet_jax.data.photographs.demo import CLASSES, SPLITS
from mgnet_jax.data.sources import SETS
from mgnet_jax.models import count, create, file_name

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "tests" / "models" / "paper_rows.json").read_text())
SHAPE = (224, 224, 3)


@cache
def load() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "configs" / "imagenet.py"))


@cache
def presets() -> dict[str, Any]:
    module = load()
    return {preset: module["get_config"](preset) for preset in module["PRESETS"]}


@cache
def parameters(spec: str, classes: int = 1000) -> int:
    return count(create(spec, classes, "imagenet"), SHAPE).parameters


def changed(preset: str, other: str) -> dict[str, Any]:
    """What a preset has that another has not, but the name."""
    one, two = flatten(presets()[preset]), flatten(presets()[other])
    return {key: value for key, value in one.items() if key != "name" and value != two[key]}


def test_the_file_says_how_to_run_every_preset() -> None:
    assert load()["get_config"]() == next(iter(presets().values())) == presets()["paper"]
    words = load()["__doc__"]
    assert "python -m mgnet_jax.main --config=configs/imagenet.py" in words
    for preset, config in presets().items():
        assert config.name.startswith("imagenet")
        assert preset.partition("-")[2] in words
        assert preset.startswith("table") or re.search(rf"^{preset}\b", words, re.MULTILINE)
    names = [config.name for config in presets().values()]
    assert len(set(names)) == len(names), "presets would share a folder of runs/"
    with pytest.raises(ConfigError, match=r"unknown preset 'nope'.*paper"):
        load()["get_config"]("nope")


@pytest.mark.parametrize("preset", load()["PRESETS"])
def test_every_preset_of_imagenet_is_valid(preset: str) -> None:
    """The two others need a folder, of which their tests have one."""
    if presets()[preset].data.name == "imagenet":
        validate(presets()[preset])


def test_rows_have_the_papers_networks_counts_and_recipe() -> None:
    found = []
    paper = flatten(presets()["paper"])
    for preset, config in presets().items():
        if preset.startswith("table"):
            spec = config.model.spec
            wanted = paper | {"name": f"imagenet-{preset}", "model.spec": spec}
            assert flatten(config) == wanted
            found.append([int(re.findall(r"\d+", preset)[0]), "ImageNet", spec])
    assert sorted(found) == sorted(row[:3] for row in ROWS if row[1] == "ImageNet")
    for table, dataset, spec, printed, exact in ROWS:
        if dataset == "ImageNet":
            assert parameters(spec) == exact
            (line,) = re.findall(
                rf"^  {re.escape(file_name(spec))} +{exact:,} +{printed} .*$",
                load()["__doc__"].partition(f"Table {table}\n")[2].partition("Table")[0],
                re.MULTILINE,
            )
            assert re.search(r" \d\d\.\d\d", line)


def test_the_recipe_is_the_papers() -> None:
    base, paper = flatten(default()), flatten(presets()["paper"])
    assert {key: value for key, value in paper.items() if value != base[key]} == {
        "name": "imagenet",
        "data.name": "imagenet",
        "data.source": "tfds",
        "data.crop_padding": 0,
        "model.spec": "MgNet[2,2,2,2]-[64,128,256,512]-B^l",
        "model.stem": "imagenet",
        "train.batch_size": 256,
        "optim.weight_decay": 1e-4,
        "checkpoint.every_steps": 1000,
        "log.every_steps": 100,
        "log.measures": "top5",
    }
    assert changed("headline", "paper") == {
        "model.spec": "MgNet[3,4,6,3]-[128,256,512,1024]-B^{l,i}"
    }
    assert changed("bfloat16", "paper") == {"model.dtype": "bfloat16"}


@pytest.mark.parametrize(("batch", "rate"), [(1024, 0.4), (4096, 1.6)])
def test_the_rate_grows_as_the_batch_does(batch: int, rate: float) -> None:
    assert changed(f"batch{batch}", "bfloat16") == {
        "train.batch_size": batch,
        "optim.learning_rate": rate,
        "optim.warmup_epochs": 5.0,
    }


def test_ones_own_photographs_have_the_default_network() -> None:
    config = presets()["photographs"]
    assert config.model.spec == presets()["paper"].model.spec
    assert (config.model.dtype, config.data.source) == ("float32", "folder")
    classes = {n: parameters(config.model.spec, n) for n in (1, 7)}
    assert f"{classes[1] - 513:,}" in load()["__doc__"]
    assert classes[7] - classes[1] == 6 * 513


def test_the_demonstration_is_as_the_file_says() -> None:
    config = presets()["demo"]
    info = SETS["demo"].info
    model = create(config.model.spec, len(CLASSES), config.model.stem)
    costs = count(model, info.image_shape)
    assert not any(part.unused for part in costs.parts)
    train, val = len(CLASSES) * 2 * SPLITS["train"], len(CLASSES) * SPLITS["val"]
    assert (info.num_classes, info.train_size, info.test_size) == (len(CLASSES), train, val)
    words = " ".join(load()["__doc__"].split())
    for number in (f"{costs.parameters:,} parameters", f"{train} tiles", f"{val} for tests"):
        assert number in words
