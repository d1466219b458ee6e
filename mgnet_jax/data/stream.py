"""Photographs as a stream of batches, with grain: the only place that knows it.

What a batch holds is a function of the seed and the step alone, whatever the number of processes,
workers and threads: to go on from a step is to slice. Nothing here, or in what it imports, starts
JAX: worker processes import it.
"""

import dataclasses
import gc
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from grain.experimental import ThreadPrefetchIterDataset

from mgnet_jax.data.cut import Cut, Images, Photograph
from mgnet_jax.data.info import Photographs
from mgnet_jax.data.order import Batches
from mgnet_jax.data.photographs.workers import WorkerError, processors, serve_until

BLOCK = 64  # images that a thread reads for itself, at most
ALIGNMENT = 64  # bytes


@dataclasses.dataclass(frozen=True)
class Reading:
    """How photographs are read; no part of it changes what is read.

    Attributes:
      workers: processes besides this one; 0: none, threads alone.
      threads: threads of each of them; 0: as many as this process may use processors, shared out.
      prefetch: batches kept ready on the device.
      places, shares: which equal shares of each part of a batch are read here, in order, and of how
        many; there is one for each device.
    """

    workers: int = 0
    threads: int = 0
    prefetch: int = 2
    places: tuple[int, ...] = (0,)
    shares: int = 1

    @property
    def threads_each(self) -> int:
        """Threads of each process that reads."""
        return self.threads or max(1, processors() // max(1, self.workers))

    def rows(self, size: int) -> int:
        """How many of so many images are read here."""
        return size // self.shares * len(self.places)

    def most_bytes(self, batches: Batches, image_bytes: int) -> int:
        """What is in memory at most of the batches that are read ahead here."""
        processes = max(1, self.workers)
        blocks = processes * 2 * self.threads_each + self.workers * 2
        parts = [self.rows(size // batches.parts) for size in {*batches.sizes}]
        block, rows = max(parts) // _blocks(parts), self.rows(batches.batch_size)
        return image_bytes * (blocks * block + (2 + self.prefetch) * rows)


class _Source:
    """The photographs of a split, and after them what fills up the last batch."""

    def __init__(self, split: Photographs, length: int):
        self.split, self.length = split, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Photograph:
        if index >= len(self.split):
            return Photograph(b"", -1, None, index)
        return Photograph(*self.split[index], self.split, index)


class _Rows(grain.MapDataset):
    """Of every `run` elements those that are read here."""

    def __init__(self, parent: grain.MapDataset, run: int, reading: Reading):
        super().__init__(parent)
        self.parent, self.run, self.reading = parent, run, reading

    def __len__(self) -> int:
        return self.reading.rows(len(self.parent))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        share = self.run // self.reading.shares
        run, row = divmod(index, share * len(self.reading.places))
        which, place = divmod(row, share)
        return self.parent[run * self.run + self.reading.places[which] * share + place]


def training_stream(
    split: Photographs,
    batches: Batches,
    cut: Cut,
    reading: Reading,
    start: int,
    convert: Callable[[Images], Any],
) -> "Stream":
    """The batches of the steps from `start` on, without end.

    Each epoch is shuffled anew. A part of a batch is split over the devices, and each process reads
    the rows of its own; images are (parts, rows, H, W, C) and labels (parts, rows).

    Args:
      split: what to train on.
      batches: how epochs make batches.
      cut: how a photograph becomes an image, by an area at random.
      reading: how, and which rows.
      start: the first step.
      convert: what becomes of each batch, in a thread of its own: it is put on the device.
    """
    shuffle_seed, crop_seed = np.random.SeedSequence([batches.seed, 2]).generate_state(2)
    images = grain.MapDataset.source(_Source(split, len(split))).shuffle(seed=int(shuffle_seed))
    images = images.random_map(cut.random, seed=int(crop_seed))
    runs = [size // batches.parts for size in dict.fromkeys(batches.sizes)]
    count = _blocks([*map(reading.rows, runs)])
    epoch, end = [], 0
    for size, run in zip(dict.fromkeys(batches.sizes), runs, strict=True):
        begin, end = end, end + size * batches.sizes.count(size)
        block = reading.rows(run) // count
        epoch.append(_in_blocks(_Rows(images[begin:end], run, reading), block, reading))
    blocks = grain.MapDataset.concatenate(epoch).repeat()
    blocks = blocks[start * batches.parts * count :]
    return Stream(blocks, batches.parts, count, reading, convert)


def scoring_stream(
    split: Photographs,
    batch_size: int,
    cut: Cut,
    reading: Reading,
    convert: Callable[[Images], Any],
) -> "Stream":
    """Every photograph once, in order, in batches of one size of which the last is filled up.

    Args:
      split: what to score.
      batch_size: images of a batch, over all processes.
      cut: how a photograph becomes an image.
      reading: how, and which rows of each batch.
      convert: what becomes of each batch: images (1, rows, H, W, C), labels (1, rows).
    """
    filled = _Source(split, math.ceil(len(split) / batch_size) * batch_size)
    rows = reading.rows(batch_size)
    count = _blocks([rows])
    images = grain.MapDataset.source(filled).map(cut.central)
    blocks = _in_blocks(_Rows(images, batch_size, reading), rows // count, reading)
    return Stream(blocks, 1, count, reading, convert)


def _in_blocks(images: grain.MapDataset, size: int, reading: Reading) -> grain.MapDataset:
    """Blocks of images; what workers make, grain puts into memory that processes share."""
    return images.batch(size) if reading.workers else images.batch(size, batch_fn=_stack)


def _stack(images: Sequence[Images]) -> Images:
    """A block of images, and their labels."""
    pixels, labels = zip(*images, strict=True)
    whole = _aligned((len(pixels), *pixels[0].shape))
    return np.stack(pixels, out=whole), np.array(labels, np.int32)


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for uint8 that begins where JAX can use it on a CPU as it is, without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].reshape(shape)


def _blocks(rows: list[int]) -> int:
    """Into how many equal blocks of at most `BLOCK` images each of several batches is cut."""
    common = math.gcd(*rows)
    fitting = [n for n in range(1, common + 1) if common % n == 0 and max(rows) <= n * BLOCK]
    return fitting[0] if fitting else common


class Stream(Iterator[Any]):
    """Batches of blocks, read ahead of time; `close` it."""

    def __init__(
        self,
        blocks: grain.MapDataset,
        parts: int,
        count: int,
        reading: Reading,
        convert: Callable[[Images], Any],
    ):
        threads = reading.threads_each
        read = blocks.to_iter_dataset(grain.ReadOptions(threads, 2 * threads))
        if reading.workers:
            read = _in_workers(read, reading.workers)

        def join(pieces: list[Images]) -> Images:
            images, labels = pieces[0]
            if len(pieces) > 1 or reading.workers:  # memory that is shared is to be given back
                blocks, numbers = zip(*pieces, strict=True)
                whole = _aligned((sum(map(len, numbers)), *images.shape[1:]))
                images, labels = np.concatenate(blocks, out=whole), np.concatenate(numbers)
            rows = len(labels) // parts
            return images.reshape(parts, rows, *images.shape[1:]), labels.reshape(parts, rows)

        batches = read.batch(parts * count, batch_fn=join).map(convert)
        ahead = ThreadPrefetchIterDataset(batches, prefetch_buffer_size=reading.prefetch)
        self._iterator: Any = iter(ahead)
        self._workers = reading.workers

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise WorkerError(
                "a process that reads photographs was killed, perhaps since memory is short: the "
                "same command goes on, with fewer config.data.workers if need be"
            ) from error

    def close(self) -> None:
        """Ends the threads and the workers."""
        if self._iterator:
            self._iterator.close()
            self._iterator = None
        if self._workers:
            # its semaphores lie in circles, and CPython 3.12 loses those that it happens to collect
            # while it makes others
            gc.collect()


def _in_workers(read: grain.IterDataset, workers: int) -> grain.IterDataset:
    """Reads in processes of their own, which live and die with this one."""
    from absl import flags  # grain reads its own flags there, and no one has parsed any

    flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    return read.mp_prefetch(options, worker_init_fn=_begin_worker)


def _begin_worker(index: int, count: int) -> None:
    """Makes this process live as long as the one that trains."""
    if parent := multiprocessing.parent_process():
        serve_until(parent.join)
