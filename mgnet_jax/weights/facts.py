"""What weights are of, and how images become what the network was trained on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgnet_jax.models import ModelError, Network, create


class WeightsError(ValueError):
    """Weights cannot be read, or are not of the network that they are for; the message says why."""

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts of a trained network.

    Attributes:
      spec, stem, dtype: of the network, see `models.create`.
      num_classes: classes.
      class_names: in label order; () where they are not known.
      image_shape: (H, W, C) of the images trained on.
      mean, std: per channel; the network takes (pixels / 255 - mean) / std.
      shorter_side: pixels that a photograph's shorter side is scaled to before its central crop to
        image_shape; 0: images are scaled to image_shape as they are.
      data: name of the data set trained on; "" if not known.
      train_size, test_size: its images; 0 if not known.
      step, epoch: optimiser steps and epochs done.
      scores: loss and accuracy (0 to 1) by name, as training recorded them at that step.
      scored: how, in words.
      config: the run's configuration, {"section.key": value}; empty for weights from elsewhere.
      versions: of the packages that wrote the weights.
      source: where the weights are from, in words.
    """

    spec: str
    stem: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str = "float32"
    class_names: tuple[str, ...] = ()
    shorter_side: int = 0
    data: str = ""
    train_size: int = 0
    test_size: int = 0
    step: int = 0
    epoch: float = 0.0
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scored: str = ""
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""

    def network(self, **options: Any) -> Network:
        """The network; options as for `models.create`, those of the run are the default."""
        section = {k: v for k, v in self.config.items() if k.startswith("model.")}
        known = {k.removeprefix("model."): v for k, v in section.items() if k != "model.spec"}
        known |= {"stem": self.stem, "dtype": self.dtype}
        if known.get("convolution") == "native":  # of the machine that trained
            known["convolution"] = "auto"
        return create(self.spec, self.num_classes, **known | options)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained network: its facts, and its variables as {"params/level1/A": array}."""

    facts: Facts
    variables: Mapping[str, np.ndarray]


def as_facts(content: Any, path: Path) -> Facts:
    """The facts that JSON holds.

    Raises:
      WeightsError: they are none.
    """
    try:
        fields = {field.name for field in dataclasses.fields(Facts)}
        known = {name: value for name, value in content.items() if name in fields}
        for name in ("image_shape", "mean", "std", "class_names"):
            known[name] = tuple(known.get(name, ()))
        facts = Facts(**known)
        sizes = (facts.num_classes, facts.shorter_side, *facts.image_shape)
        if len(facts.image_shape) != 3 or not all(type(n) is int and n >= 0 for n in sizes):
            raise ValueError("a size in it is no whole number, or image_shape has not three")
        if not len(facts.mean) == len(facts.std) == facts.image_shape[2] or min(facts.std) <= 0:
            raise ValueError("mean and std must have a number for each channel, std above 0")
        if facts.class_names and len(facts.class_names) != facts.num_classes:
            raise ValueError(f"{len(facts.class_names)} names of {facts.num_classes} classes")
        facts.network()
    except (AttributeError, KeyError, TypeError, ValueError, ModelError) as error:
        raise WeightsError(f"{path} does not describe a network: {error}") from None
    return facts
