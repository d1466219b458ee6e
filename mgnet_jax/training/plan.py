"""What training takes on devices, there or not: memory, bytes on the links, hours.

Arithmetic alone, from shapes, the traced program and published peaks. The bytes are those of the
program that XLA makes (tests/training/test_plan.py); the seconds rest on a utilisation that is
stated, not measured.
"""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError
from mgnet_jax.data import sets
from mgnet_jax.data.info import Info
from mgnet_jax.data.order import Batches
from mgnet_jax.data.sources import DataSet
from mgnet_jax.models import Costs, Network, kernel_reads
from mgnet_jax.training import measures, optim, sharding
from mgnet_jax.training.accelerators import Accelerator, peak
from mgnet_jax.training.job import Job
from mgnet_jax.training.memory import Memory, device_memory, make_memory, split_arrays
from mgnet_jax.training.progress import mebibytes


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a device has exchanged with the others, as the sizes of the whole arrays.

    Attributes:
      gradients: all-reduced: of parameters that every device has whole.
      scattered: reduce-scattered: gradients of parameters in parts. XLA may all-reduce them.
      again: all-reduced: of kernels that are read several times, their gradients beyond the
        first. XLA may add them first.
      moments: all-reduced: means and variances of batch norms, with model.remat=steps at
        most twice; the sums that their gradients take are the gradients of scales and biases.
      metrics: all-reduced: sums over images. Measures of a step are not counted, a few bytes.
      gathered: all-gathered: parameters in parts, to be whole.
      devices: among which.
    """

    gradients: int
    scattered: int
    again: int
    moments: int
    metrics: int
    gathered: int
    devices: int

    @property
    def reduced(self) -> int:
        """Bytes of everything that is summed over the devices."""
        return self.gradients + self.scattered + self.again + self.moments + self.metrics

    @property
    def sent(self) -> float:
        """Bytes that each device sends around a ring.

        An all-reduce is a reduce-scatter and an all-gather, each of (n - 1) / n of the array.
        """
        once = self.scattered + self.gathered
        twice = self.reduced - self.scattered
        return (once + 2 * twice) * (self.devices - 1) / self.devices


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a configuration takes on so many devices of a kind.

    Attributes:
      kind: of the devices.
      devices: over which a batch is split.
      batch: images of a device at once: of its part of a batch, or of one of `parts`.
      parts: of a batch, one after the other.
      memory: on each device.
      batches: of an epoch.
      epochs: of training.
      traffic: of a step.
      image_flops: forward and backward, of one image.
      speed: FLOP/s of a device at the stated utilisation.
      images_per_core: photographs read per second and core; None: the images lie on the device.
    """

    kind: Accelerator
    devices: int
    batch: int
    parts: int
    memory: Memory
    batches: Batches
    epochs: int
    traffic: Traffic
    image_flops: float
    speed: float
    images_per_core: float | None

    @property
    def limit(self) -> float:
        """Bytes of memory that JAX has by default on a device."""
        return self.kind.usable * self.kind.memory

    @property
    def fits(self) -> bool:
        """Whether the memory is enough."""
        return self.memory.total <= self.limit

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.batches.steps

    @property
    def compute_s(self) -> float:
        """Seconds of a full step for the convolutions and the linear maps."""
        return self.batches.batch_size / self.devices * self.image_flops / self.speed

    @property
    def communication_s(self) -> float:
        """Seconds of a step for its bytes on the links, without latency and overlap."""
        return self.traffic.sent / self.kind.link

    @property
    def step_s(self) -> float:
        """Seconds of a full step, one after the other."""
        return self.compute_s + self.communication_s

    @property
    def hours(self) -> float:
        """Hours of all steps; scoring, compilation and waiting for images come on top."""
        full = sum(self.batches.sizes) / self.batches.batch_size  # an epoch's last may be smaller
        epoch = full * self.compute_s + self.batches.steps * self.communication_s
        return self.epochs * epoch / 3600

    @property
    def images_per_second(self) -> float:
        """Images that the devices take together."""
        return self.batches.batch_size / self.step_s

    @property
    def cores(self) -> float | None:
        """Cores that read so many photographs; None of images on the device."""
        return self.images_per_core and self.images_per_second / self.images_per_core


def make_traffic(config: ConfigDict, shapes: Any, reads: int, devices: int) -> Traffic:
    """The bytes of a step.

    Args:
      config: a validated configuration.
      shapes: of its state, see `Job.state_shapes`.
      reads: see `models.kernel_reads`.
      devices: over which a batch is split; of one nothing is exchanged.
    """
    if devices == 1:
        return Traffic(0, 0, 0, 0, 0, 0, 1)
    parameters = jax.tree.leaves(shapes.params)
    size, parts = sharding.bytes_of(parameters), config.train.accumulate
    split = sharding.bytes_of(split_arrays(config, parameters, devices))
    mask = jax.tree.leaves(optim.decay_mask(shapes.params))
    kernels = [x for x, kernel in zip(parameters, mask, strict=True) if kernel]
    again = reads * parameters[0].dtype.itemsize - sharding.bytes_of(kernels)
    images = [m for m in measures.chosen(config.log.measures) if m.of == "image"]
    return Traffic(
        gradients=parts * (size - split),
        scattered=parts * split,
        again=parts * max(0, again),
        moments=parts
        * (1 + (config.model.remat == "steps"))
        * sharding.bytes_of(shapes.batch_stats),
        metrics=parts * 4 * (2 + len(images)),  # loss and accuracy; the count is known
        gathered=split,
        devices=devices,
    )


def make_plan(
    config: ConfigDict,
    model: Network,
    info: Info,
    costs: Costs,
    kind: Accelerator,
    devices: int,
    utilisation: float,
    images_per_core: float,
) -> Plan:
    """The plan of a configuration.

    The work of an image is three times that of its forward pass, with model.remat=steps four times.

    Args:
      config: one that is valid for so many devices.
      model: its network.
      info: its data set.
      costs: what the network costs for its images.
      kind: of the devices.
      devices: over which a batch is split.
      utilisation: share of the peak that is reached, 0 < utilisation <= 1.
      images_per_core: photographs read per second and core.

    Raises:
      ConfigError: no peak is known for the type of the activations.
    """
    job = Job(config, DataSet(info, None, None, ()))
    shapes = job.state_shapes
    memory = make_memory(config, model, info, costs, shapes, devices)
    return Plan(
        kind=kind,
        devices=devices,
        batch=memory.step.batch,
        parts=config.train.accumulate,
        memory=memory,
        batches=job.batches,
        epochs=config.train.epochs,
        traffic=make_traffic(config, shapes, kernel_reads(model, info.image_shape), devices),
        image_flops=(3 + (config.model.remat == "steps")) * 2 * costs.macs,
        speed=utilisation * peak(kind, config.model.dtype),
        images_per_core=images_per_core if sets.are_photographs(config.data) else None,
    )


def require_memory(config: ConfigDict, info: Info, model: Network, costs: Costs) -> None:
    """Refuses what cannot fit the devices, before anything is allocated.

    Args:
      config: a validated configuration.
      info: its data set.
      model: its network.
      costs: what the network costs for its images.

    Raises:
      ConfigError: by the estimate, training takes more memory than a device has.
    """
    device, devices = jax.local_devices()[0], jax.device_count()
    limit = device_memory(device)
    if limit is None or not config.supervise.require_memory or _surely_fits(config, costs, limit):
        return
    shapes = Job(config, DataSet(info, None, None, ())).state_shapes
    memory = make_memory(config, model, info, costs, shapes, devices)
    if memory.total > limit:
        train = config.train
        raise ConfigError(
            f"training {model.spec} takes about {mebibytes(memory.total)} on each device, and "
            f"{device} has {mebibytes(limit)}: {mebibytes(memory.state)} weights and momentum, "
            f"{mebibytes(memory.step.activations)} activations and "
            f"{mebibytes(memory.step.working)} working memory for a batch of {memory.step.batch}, "
            f"{mebibytes(memory.step.data)} images. Lower config.train.batch_size="
            f"{train.batch_size}, raise config.train.accumulate={train.accumulate}, set "
            f"config.model.remat=steps or take a smaller network; "
            f"config.supervise.require_memory=False tries it all the same"
        )


def _surely_fits(config: ConfigDict, costs: Costs, limit: int) -> bool:
    """Whether a bound that takes no time is far below the memory.

    No output of a convolution costs fewer than 9 multiply-adds, and a step keeps fewer than 8
    arrays of its size for it, of 8 bytes a number or less.
    """
    activations = 8 * 8 * config.train.batch_size * costs.macs / 9
    return activations + 8 * 8 * costs.parameters < limit / 2
