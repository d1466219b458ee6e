"""Recipes of training, each written once for all data sets, and presets of the paper's tables.

A recipe is what a preset says besides its data and its network: {"section.key": value}.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mgnet_jax.models import file_name

PAPER: dict[str, Any] = {
    "model.initializer": "kaiming",
    "train.epochs": 150,
    "train.batch_size": 128,
    "optim.learning_rate": 0.1,
    "optim.momentum": 0.9,
    "optim.weight_decay": 5e-4,
    "optim.schedule": "step",
    "optim.step_epochs": 30,
    "optim.step_factor": 0.1,
}
"""The paper's: 150 epochs of batches of 128, rate 0.1 divided by 10 every 30 epochs."""

IMAGENET: dict[str, Any] = PAPER | {
    "train.batch_size": 256,
    "optim.weight_decay": 1e-4,
}
"""The paper's on ImageNet: batches of 256, less weight decay; epochs and rates are the same."""

SCRIPT: dict[str, Any] = PAPER | {
    "data.last_batch": "use",
    "model.initializer": "pytorch",
    "train.epochs": 300,
    "optim.step_epochs": 50,
    "optim.first_epoch": 1,
}
"""The published script's: PyTorch's initial weights, 300 epochs counted from 1, drops every 50."""

SHORT: dict[str, Any] = PAPER | {
    "train.epochs": 10,
    "optim.nesterov": True,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 1.0,
}
"""Ours for CPUs: few epochs, Nesterov's momentum, a cosine after an epoch of warm-up."""

LAPTOP: dict[str, Any] = SHORT | {
    "model.stem": "half",
    "data.alternate_flips": True,
    "data.crop_padding": 2,
    "train.epochs": 11,
    "train.batch_size": 512,
    "train.label_smoothing": 0.1,
    "optim.learning_rate": 0.4,
    "optim.muon": 1.0,
    "optim.muon_momentum": 0.6,
    "optim.schedule": "linear",
    "optim.warmup_epochs": 1.0,
    "eval.every_epochs": 11,
    "eval.flip": True,
    "eval.shift": 1,
}
"""Ours for a quarter of an hour on two cores: Muon, half as fine a grid, few epochs.

Label smoothing is Szegedy et al. 2016's; the others stand at their keys.
"""

STUDY: dict[str, Any] = {
    "data.train_images": 5000,
    "train.epochs": 8,
    "train.batch_size": 50,
    "optim.learning_rate": 0.05,
    "optim.nesterov": True,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 1.0,
    "eval.every_epochs": 8,
}
"""What a small study of the paper's rows changes: few images and epochs, a cosine; for 2 cores."""


def large_batch(recipe: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """What a larger batch changes in a recipe, by the linear scaling rule (Goyal et al. 2017).

    The rate grows as the batch does, after 5 epochs of warm-up.
    """
    factor = batch_size / recipe["train.batch_size"]
    return {
        "train.batch_size": batch_size,
        "optim.learning_rate": recipe["optim.learning_rate"] * factor,
        "optim.warmup_epochs": 5.0,
    }


def rows(table: int, recipe: Mapping[str, Any], specs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Presets of rows of one of the paper's tables, `table<n>-<network>`, see `models.file_name`.

    Args:
      table: its number.
      recipe: all that a preset says but its name and its network; "data.name" is among it.
      specs: the networks, by their names in the paper.
    """
    presets = {}
    for spec in specs:
        preset = f"table{table}-{file_name(spec)}"
        presets[preset] = {**recipe, "name": f"{recipe['data.name']}-{preset}", "model.spec": spec}
    return presets
