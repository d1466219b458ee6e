"""The memory that training takes on a device, told before anything is made, and what there is."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from mgnet_jax.data.info import Info
from mgnet_jax.data.sets import are_photographs
from mgnet_jax.models import Costs, Network, step_memory
from mgnet_jax.training import sharding
from mgnet_jax.training.progress import mebibytes


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
    memory = step_memory(model, info.image_shape, batch, parts, devices == 1)
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


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of memory on each device.

    Attributes:
      state: weights, momentum, batch statistics and their average if there is one.
      gradients: of all parameters, which may all wait to be reduced; 0 on one device, where they
        are with the working memory.
      gathered: parameters that lie in parts, whole for the length of a step.
      step: activations, working memory and images, see `estimate_memory`.
    """

    state: int
    gradients: int
    gathered: int
    step: MemoryEstimate

    @property
    def total(self) -> int:
        """All of it."""
        step = self.step.activations + self.step.working + self.step.data
        return self.state + self.gradients + self.gathered + step


def make_memory(
    config: ConfigDict, model: Network, info: Info, costs: Costs, shapes: Any, devices: int
) -> Memory:
    """The memory on each device; arguments as in `make_plan` and `make_traffic`."""
    parameters = jax.tree.leaves(shapes.params)
    images = images_on_device(config, info, devices)
    return Memory(
        state=sharding.bytes_on_device(shapes, devices, config.train.sharding),
        gradients=sharding.bytes_of(parameters) if devices > 1 else 0,
        gathered=sharding.bytes_of(split_arrays(config, parameters, devices)),
        step=estimate_memory(model, info, costs, config.train, devices, images),
    )


def split_arrays(config: ConfigDict, arrays: list[Any], devices: int) -> list[Any]:
    """Those of the arrays that lie in parts."""
    return [x for x in arrays if sharding.is_split(x.shape, devices, config.train.sharding)]


def device_memory(device: jax.Device) -> int | None:
    """Bytes of memory that JAX has on a device; None if it does not say.

    CPU devices, of which there can be several on a machine, share its memory.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu" and hasattr(os, "sysconf"):
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
        with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
            sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
        limit = min(sizes) // jax.local_device_count()
    return limit
