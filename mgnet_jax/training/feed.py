"""What hands the compiled calls their batches: a set on the device, or a stream of photographs.

The loop, the step and scoring know only `Feed`. What a batch holds depends on the seed and the step
alone, so that going on from a step is asking for it.
"""

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mgnet_jax.data import stream
from mgnet_jax.data.cut import Cut, Images
from mgnet_jax.data.info import ImageSet, Photographs
from mgnet_jax.data.order import Batches
from mgnet_jax.training import sharding


class Feed(Protocol):
    """Batches for compiled calls.

    Attributes:
      size: images of a set to score, or to train on.
      batches: how many there are of a set to score, or in an epoch.
      batch_size: images of a batch; of a set to train on the last may have fewer.
      most_steps: how many batches one call can have at most.
      shardings: of what `arrays` gives.
      streamed: whether batches can be waited for.
      looped: whether a call has as many steps as it is told, not always one.
      asked, came: when the last ones were asked for and came, in seconds of time.monotonic().
      note: what it reads with and keeps in memory, for people; begins with ", " if there is any.
    """

    size: int
    batches: int
    batch_size: int
    most_steps: int
    shardings: Any
    streamed: bool
    looped: bool
    asked: float
    came: float
    note: str

    def arrays(self, start: int, count: int) -> Any:
        """What a call needs for the batches start .. start + count - 1, on the device."""

    def abstract(self, batch_size: int) -> Any:
        """Shapes and types of that, to compile for."""

    def batch(self, arrays: Any, i: Any) -> tuple[jax.Array, jax.Array]:
        """Images and labels of a call's batch i (from 0), traced: for training (parts, n, ...)."""

    def close(self) -> None:
        """Ends what reads ahead."""


class _Resident:
    """A small set as uint8 on every device; a call is told which images it needs."""

    streamed, looped, asked, came, note = False, True, 0.0, 0.0, ""

    def __init__(self, images: ImageSet, mesh: Mesh):
        self.images, self.copies = images, sharding.replicated(mesh)
        self.size = len(images)

    @cached_property
    def whole(self) -> tuple[jax.Array, jax.Array]:
        """Images and labels, on the device."""
        whole = self.images.images, self.images.labels
        images, labels = (sharding.place(array, self.copies) for array in whole)
        return images, labels

    def close(self) -> None:
        """There is nothing to end."""


class ResidentTraining(_Resident):
    """Batches to train on, of a set on the device."""

    def __init__(self, images: ImageSet, batches: Batches, mesh: Mesh):
        super().__init__(images, mesh)
        self.order, self.batches, self.batch_size = batches, batches.steps, batches.batch_size
        self.split = sharding.batch(mesh, axis=2)
        self.shardings = (self.copies, self.copies, self.split)
        self.most_steps = max(2, min(batches.steps, 256))

    def arrays(self, start: int, count: int) -> Any:
        """The set, and the indices of the steps' images, (most_steps, parts, n), 0 beyond."""
        rows = self.order.indices(start, count)
        padded = np.zeros((self.most_steps, *rows.shape[1:]), np.int32)
        padded[:count] = rows
        return *self.whole, sharding.place(padded, self.split)

    def abstract(self, batch_size: int) -> Any:
        """The set, and indices of steps of that size."""
        return self.arrays(self.order.sizes.index(batch_size), 1)

    def batch(self, arrays: Any, i: Any) -> tuple[jax.Array, jax.Array]:
        """The images of a step, gathered."""
        images, labels, indices = arrays
        chosen = indices[i]
        return images[chosen], labels[chosen]


class ResidentScoring(_Resident):
    """All images of a set on the device, batch after batch."""

    def __init__(self, images: ImageSet, batch_size: int, mesh: Mesh):
        super().__init__(images, mesh)
        self.batch_size = batch_size
        self.shardings = (self.copies,) * 3
        self.batches = -(-self.size // batch_size)
        self.most_steps = max(2, self.batches)

    def arrays(self, start: int, count: int) -> Any:
        """The set, and the number of the first batch."""
        return *self.whole, np.int32(start)

    def abstract(self, batch_size: int) -> Any:
        """The same."""
        return self.arrays(0, 1)

    def batch(self, arrays: Any, i: Any) -> tuple[jax.Array, jax.Array]:
        """A batch; what fills up the last one has the label -1."""
        images, labels, first = arrays
        places = (first + i) * self.batch_size + jnp.arange(self.batch_size)
        chosen = jnp.minimum(places, self.size - 1)
        return images[chosen], jnp.where(places < self.size, labels[chosen], -1)


class Streamed:
    """One batch of photographs a call, read and cut ahead of time.

    Args:
      open_at: gives the stream from a batch on; what its batches become is its second argument.
      size, batches, batch_size: see `Feed`.
      parts: of a batch to train on, (parts, n); None for batches to score, (n,).
      image_shape: (H, W, C).
      mesh: devices.
      note: see `Feed`.
    """

    streamed, most_steps = True, 1

    def __init__(
        self,
        open_at: Callable[[int, Callable[[Images], Any]], stream.Stream],
        size: int,
        batches: int,
        batch_size: int,
        parts: int | None,
        image_shape: tuple[int, int, int],
        mesh: Mesh,
        note: str = "",
    ):
        self.size, self.batches, self.batch_size, self.note = size, batches, batch_size, note
        self.open_at, self.parts, self.image_shape = open_at, parts, image_shape
        self.split = sharding.batch(mesh, axis=0 if parts is None else 1)
        self.shardings = (self.split, self.split)
        self.looped = jax.process_count() > 1  # a process may not have its part of a batch
        self.places = sharding.own_places(mesh)
        self.asked = self.came = 0.0
        self._next = -1
        self._stream: stream.Stream | None = None

    def arrays(self, start: int, count: int) -> Any:
        """The batch of a step; they are to be asked for in turn."""
        self.asked = time.monotonic()
        if start != self._next or self._stream is None:
            self.close()
            self._stream = self.open_at(start, self._put)
        arrays = next(self._stream)
        self._next = start + 1
        self.came = time.monotonic()
        return arrays

    def abstract(self, batch_size: int) -> Any:
        """Shapes of images and labels of a batch of that size."""
        shape = (batch_size,) if self.parts is None else (self.parts, batch_size // self.parts)
        types = ((*shape, *self.image_shape), jnp.uint8), (shape, jnp.int32)
        return tuple(jax.ShapeDtypeStruct(*one, sharding=self.split) for one in types)

    def batch(self, arrays: Any, i: Any) -> tuple[jax.Array, jax.Array]:
        """The call's one batch."""
        return arrays

    def close(self) -> None:
        """Ends the threads and the processes that read."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _put(self, batch: Images) -> tuple[jax.Array, ...]:
        """The rows of this process's devices as parts of the global batch, on the devices."""
        images, labels = batch if self.parts is not None else (array[0] for array in batch)
        axis = labels.ndim - 1
        devices, each = self.split.mesh.devices.size, labels.shape[axis] // len(self.places)

        def put(local: np.ndarray) -> jax.Array:
            def piece(index: Any) -> np.ndarray:
                place = self.places.index((index[axis].start or 0) // each)
                rows = slice(place * each, (place + 1) * each)
                return local[(*[slice(None)] * axis, rows)]

            shape = (*labels.shape[:axis], each * devices, *local.shape[axis + 1 :])
            return jax.make_array_from_callback(shape, self.split, piece)

        return put(images), put(labels)


def training_feed(
    images: ImageSet | Photographs,
    batches: Batches,
    cut: Cut,
    reading: stream.Reading,
    mesh: Mesh,
) -> Feed:
    """The batches to train on.

    Args:
      images: what to train on.
      batches: how epochs make batches.
      cut: how photographs become images.
      reading: how photographs are read.
      mesh: devices.
    """
    if isinstance(images, ImageSet):
        return ResidentTraining(images, batches, mesh)

    def open_at(start: int, convert: Callable[[Images], Any]) -> stream.Stream:
        return stream.training_stream(images, batches, cut, reading, start, convert)

    size = reading.most_bytes(batches, math.prod(cut.image_shape))
    by = f"{reading.threads_each} threads"
    if reading.workers:
        by += f" in each of {reading.workers} processes"
    note = f"; photographs are read by {by}, {cut.decoder}, at most {size / 2**20:,.1f} MiB ahead"
    counts = batches.size, batches.steps, batches.batch_size, batches.parts
    return Streamed(open_at, *counts, cut.image_shape, mesh, note)


def scoring_feed(
    images: ImageSet | Photographs,
    batch_size: int,
    cut: Cut,
    reading: stream.Reading,
    mesh: Mesh,
) -> Feed:
    """Batches of every image once, of at most `batch_size`; the rest is as in `training_feed`."""
    devices = mesh.devices.size
    batch_size = min(batch_size, -(-len(images) // devices) * devices)
    if isinstance(images, ImageSet):
        return ResidentScoring(images, batch_size, mesh)

    def open_at(start: int, convert: Callable[[Images], Any]) -> stream.Stream:
        if start:
            raise ValueError(f"photographs are scored from the first on, not from batch {start}")
        return stream.scoring_stream(images, batch_size, cut, reading, convert)

    count = -(-len(images) // batch_size)
    return Streamed(open_at, len(images), count, batch_size, None, cut.image_shape, mesh)
