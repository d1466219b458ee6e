"""What a network is and costs, for people, before anything is trained."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.data.sets import are_photographs
from mgnet_jax.data.sources import Info
from mgnet_jax.models import Costs, Network, step_memory
from mgnet_jax.training.progress import table


def model_summary(model: Network, info: Info, costs: Costs) -> str:
    """A table of the network's parts: output, parameters and multiply-adds for one image."""
    unused = sum(part.unused for part in costs.parts)
    rows: list[dict[str, object]] = [
        {
            "part": part.name,
            "": part.detail,
            "output": "x".join(map(str, part.output)),
            "parameters": f"{part.parameters:,}",
            **({"unused": f"{part.unused:,}" if part.unused else ""} if unused else {}),
            "MMAC": f"{part.macs / 1e6:,.2f}",
        }
        for part in costs.parts
    ]
    height, width, channels = info.image_shape
    form = f"{model.computed_form} form, " if "direct" in model.forms else ""
    lines = [
        f"{model.spec} on {info.name}: {info.num_classes} classes, {height}x{width}x{channels} "
        f"images, {model.stem} stem, {form}{model.dtype}",
        "",
        table(rows),
        "",
        f"parameters  {costs.parameters:,}"
        + (f", of which {unused:,} are unused: they have no effect" if unused else ""),
        f"work        {costs.macs / 1e9:.4g} GMAC = {2 * costs.macs:,} FLOPs an image forward "
        f"(convolutions and the linear layer; about three times that to train)",
    ]
    if model.spec.note:
        lines.append(f"note        {model.spec.note}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of memory of training on one device.

    Attributes:
      weights: weights and momentum, and their average if there is one.
      activations, working: at the worst moment of a step, see `models.Memory`; the pixels of the
        batch are with the working memory.
      data: images that lie on the device.
      batch: images of the device's part of a batch.
    """

    weights: int
    activations: int
    working: int
    data: int
    batch: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.working + self.data

    def __str__(self) -> str:
        return (
            f"memory      {mebibytes(self.weights)} weights and momentum, "
            f"{mebibytes(self.activations)} activations and {mebibytes(self.working)} working "
            f"memory for a batch of {self.batch}, {mebibytes(self.data)} images: in all about "
            f"{mebibytes(self.total)} on each device"
        )


def estimate_memory(
    model: Network,
    info: Info,
    costs: Costs,
    train: Mapping[str, Any],
    devices: int = 1,
    images: int | None = None,
) -> MemoryEstimate:
    """The memory of training, before anything is compiled.

    Args:
      model: the network.
      info: the data set.
      costs: what the network costs for its images.
      train: the `train` section of a configuration.
      devices: over which a batch is split.
      images: how many lie on each device as bytes; None: the data set whole.
    """
    parameter_width = 8 if model.dtype == "float64" else 4
    copies = 2 + bool(train["ema_decay"])
    parts = train["accumulate"]
    batch = -(-train["batch_size"] // (parts * devices))
    if images is None:
        images = info.train_size + info.test_size
    pixels = math.prod(info.image_shape)
    memory = step_memory(model, info.image_shape, batch, parts)
    return MemoryEstimate(
        weights=parameter_width * copies * costs.parameters,
        activations=memory.activations,
        working=memory.working + batch * parts * pixels,
        data=images * pixels,
        batch=batch,
    )


def images_on_device(config: ConfigDict, info: Info, devices: int = 1) -> int:
    """How many images lie on each device as bytes: a small set whole, photographs as read ahead."""
    if are_photographs(config.data):
        return config.data.prefetch * config.train.batch_size // devices
    return info.train_size + info.test_size


def mebibytes(size: int) -> str:
    """A number of bytes as MiB."""
    return f"{size / 2**20:,.1f} MiB"
