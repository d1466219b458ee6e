"""All 121 rows of the paper's tables, by their printed names, with their exact counts."""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import mgnet_jax
from mgnet_jax.models import parse

ROWS = json.loads((Path(__file__).parent / "paper_rows.json").read_text())
SETS = {
    "MNIST": ((28, 28, 1), 10, "cifar"),
    "CIFAR10": ((32, 32, 3), 10, "cifar"),
    "CIFAR100": ((32, 32, 3), 100, "cifar"),
    "ImageNet": ((224, 224, 3), 1000, "imagenet"),
}
TEXT = {  # CIFAR-100; the text's reading of the rows that share B, which the counts do not fit
    "ResNet18-A^{l,i}-B^l": 11183268,
    "ResNet18-A^l-B^l": 8049828,
    "pre-act ResNet18-A^{l,i}-B^l": 11180452,
    "pre-act ResNet18-A^l-B^l": 8047012,
    "ResNet34-A^{l,i}-B^l": 16241060,
    "ResNet34-A^l-B^l": 8057252,
    "pre-act ResNet34-A^{l,i}-B^l": 16238244,
    "pre-act ResNet34-A^l-B^l": 8054436,
}


@cache
def parameters(name: str, dataset: str) -> int:
    shape, classes, stem = SETS[dataset]
    model = mgnet_jax.create(name, num_classes=classes, stem=stem)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.shape == (1, classes)
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_there_are_121_rows_and_105_counts() -> None:
    assert len(ROWS) == 121
    assert sum(printed is not None for *_, printed, _ in ROWS) == 105
    assert Counter(row[0] for row in ROWS) == {
        1: 16,
        2: 4,
        3: 32,
        4: 18,
        5: 8,
        6: 2,
        7: 11,
        8: 12,
        9: 4,
        10: 6,
        11: 8,
    }


@pytest.mark.parametrize("table", range(1, 12))
def test_every_row_has_its_name_and_its_count(table: int) -> None:
    for _, dataset, name, printed, exact in (row for row in ROWS if row[0] == table):
        spec = parse(name)
        assert str(spec) == name
        assert parse(spec.canonical) == spec
        if name in TEXT:  # the counts are those of the other reading
            name += "@table3"
        assert parameters(name, dataset) == exact or printed is None, name


@pytest.mark.parametrize("name", TEXT)
def test_the_texts_reading_has_its_own_count(name: str) -> None:
    assert parameters(name, "CIFAR100") == TEXT[name]


@pytest.mark.parametrize(
    ("name", "stem", "exact"),
    [
        ("WRN-28-2", "cifar", 1467610),
        ("WRN-40-2", "cifar", 2243546),
        ("WRN-28-10", "cifar", 36479194),
        ("pre-act ResNet164", "cifar", 1703258),
        ("ResNet50", "imagenet", 25557032),
        ("ResNet152", "imagenet", 60192808),
        ("AlexNet@torchvision", "imagenet", 61100840),
    ],
)
def test_the_true_networks_have_names_too(name: str, stem: str, exact: int) -> None:
    assert parameters(name, "ImageNet" if stem == "imagenet" else "CIFAR10") == exact
