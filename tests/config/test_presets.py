"""Every config file and preset is valid and says how to run it; rows are those of the paper."""

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mgnet_jax.config import (
    ConfigError,
    default,
    flatten,
    from_preset,
    make_model,
    validate,
)
from mgnet_jax.data import sources
from mgnet_jax.models import count, create, file_name, parse

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem != "imagenet")
"""Those of sets in memory; test_imagenet.py has the other one."""
ROWS = json.loads((ROOT / "tests" / "models" / "paper_rows.json").read_text())
SETS = {"MNIST": "mnist", "CIFAR10": "cifar10", "CIFAR100": "cifar100"}


@cache
def load(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "configs" / f"{name}.py"))


@cache
def presets(name: str) -> dict[str, Any]:
    """The configurations of a file's presets, the first being its default."""
    module = load(name)
    return {preset: module["get_config"](preset) for preset in module["PRESETS"]}


@cache
def counted(spec: str, stem: str, name: str) -> int:
    info = sources.SETS[name].info
    return count(create(spec, info.num_classes, stem), info.image_shape).parameters


def parameters(config: Any) -> int:
    return counted(config.model.spec, config.model.stem, config.data.name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_and_preset_is_valid_and_says_how_to_run_it(path: Path) -> None:
    module, configs = load(path.stem), presets(path.stem)
    assert module["get_config"]() == next(iter(configs.values()))
    for preset, config in configs.items():
        validate(config)
        assert config.name.startswith(path.stem)
        number = rf"(?<![\d,]){parameters(config):,}(?!,?\d)"
        assert re.search(number, module["__doc__"]) or preset.startswith("table1-"), preset
    names = [config.name for config in configs.values()]
    assert len(set(names)) == len(names), "presets would share a folder of runs/"
    assert "python -m mgnet_jax.main" in module["__doc__"]
    with pytest.raises(ConfigError, match=f"unknown preset 'nope'.*{next(iter(configs))}"):
        module["get_config"]("nope")


def test_the_names_of_networks_need_no_quoting() -> None:
    for spec, name in (
        ("pre-act ResNet18-A^l-B^{l,i}", "preact-resnet18-Al-Bli"),
        ("ResNet34-A^{l,i}-B^l@table3", "resnet34-Ali-Bl-table3"),
        ("preact-ResNet1001", "preact-resnet1001"),
        ("WideResNet28 * 2", "wideresnet28x2"),
        ("VGG19", "vgg19"),
        ("MgNet[2,2,2,2]-[32,64]-B^l", "mgnet-2,2,2,2-32,64-Bl"),
        ("MgNet[2,2]-256-B^{l,i}", "mgnet-2,2-256-Bli"),
        ("DataFeature(K,sKs)", "datafeature-K,sKs"),
    ):
        assert file_name(spec) == name


@pytest.mark.parametrize("name", SETS.values())
def test_rows_have_the_papers_networks_counts_and_recipe(name: str) -> None:
    """As printed; the counts of rows that share B, which are those of another reading, with it."""
    found, paper = set(), flatten(presets(name)["paper"])
    for preset, config in presets(name).items():
        if not preset.startswith("table"):
            continue
        assert re.fullmatch(r"[\w,-]+", preset, re.ASCII)
        spec = config.model.spec
        assert flatten(config) == paper | {"name": f"{name}-{preset}", "model.spec": spec}
        table, printed = int(preset[5]), spec.removesuffix("@table3")
        (row,) = (
            row
            for row in ROWS
            if row[0] == table and SETS.get(row[1]) == name and parse(row[2]) == parse(printed)
        )
        assert row[2] == printed or table == 1  # whose printed names are long
        shares_B = table == 3 and printed.endswith("-B^l")
        counted_so = spec.endswith("@table3") or not shares_B
        assert (parameters(config) == row[4]) == counted_so or table == 1
        found.add((table, row[2], spec == printed))
    wanted = {
        (row[0], row[2], reading)
        for row in ROWS
        if row[0] <= 5 and SETS.get(row[1]) == name
        for reading in (True, False)
        if reading or (row[0] == 3 and row[2].endswith("-B^l"))
    }
    assert found == wanted


def test_the_recipes_are_the_papers_and_the_published_scripts() -> None:
    paper, script = (flatten(presets("cifar10")[name]) for name in ("paper", "script"))
    changed = {name: value for name, value in paper.items() if value != flatten(default())[name]}
    # the defaults are the paper's recipe
    assert changed == {"name": "cifar10", "data.name": "cifar10"}
    assert {name: value for name, value in script.items() if value != paper[name]} == {
        "name": "cifar10-script",
        "data.last_batch": "use",
        "data.mean": (0.4914, 0.4822, 0.4465),
        "data.std": (0.2023, 0.1994, 0.2010),
        "model.initializer": "pytorch",
        "train.epochs": 300,
        "optim.step_epochs": 50,
        "optim.first_epoch": 1,
    }
    for name in ("mnist", "cifar100"):
        other = flatten(presets(name)["script"])
        own = ("name", "data.name", "data.mean", "data.std", "data.crop_padding", "data.flip")
        assert all(other[key] == value for key, value in script.items() if key not in own)
        assert (other["data.mean"], other["data.std"]) == ((), ())


@pytest.mark.parametrize("name", SETS.values())
def test_small_nets_have_nothing_unused(name: str) -> None:
    config = presets(name)["small"]
    costs = count(make_model(config, sources.SETS[name].info), sources.SETS[name].info.image_shape)
    assert not any(part.unused for part in costs.parts)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            "smal",
            "did you mean 'small'? there are paper, small, 2 of table3-..., 2 of table4-... (",
        ),
        ("nope", "unknown preset 'nope'; there are paper, small, 2 of table3-..., 2 of table4-..."),
        ("table4-x", "unknown preset 'table4-x'; did you mean 'table4-"),
        ("table4-x", "(table4 lists them)"),
        ("table3", "there are table3-A, table3-b"),
    ],
)
def test_unknown_presets_are_named_with_what_there_is(asked: str, words: str) -> None:
    names = ("paper", "small", "table3-A", "table3-b", "table4-c", "table4-d")
    with pytest.raises(ConfigError) as caught:
        from_preset({name: {} for name in names}, asked)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 150
