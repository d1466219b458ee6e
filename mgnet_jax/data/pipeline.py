"""From a data set to what a compiled step takes: arrays on the mesh and the order of the images.

A small set lies on the device as uint8, whole; a step is told the indices of its images. The order
is a function of the seed and the epoch alone, so that a run can go on from any step exactly.
"""

from functools import lru_cache

import jax
import numpy as np

from mgnet_jax.data.sources import ImageSet


def to_device(images: ImageSet, sharding: jax.sharding.Sharding) -> tuple[jax.Array, jax.Array]:
    """Images uint8 (N, H, W, C) and labels int32 (N,) on the device."""
    return jax.device_put((images.images, images.labels), sharding)


@lru_cache(maxsize=2)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(size) that depends on the seed and the epoch (from 0) alone."""
    return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)


def batch_sizes(size: int, batch_size: int, last_batch: str) -> list[int]:
    """The number of images of each step of an epoch.

    Args:
      size: training images.
      batch_size: images of a step.
      last_batch: "drop" if the images left over at an epoch's end, others in every epoch, are not
        used in it, "use" if they make a smaller batch.
    """
    full, left = divmod(size, batch_size)
    return [batch_size] * full + [left] * (last_batch == "use" and left > 0)


def batch_indices(
    size: int, batch_size: int, seed: int, start: int, count: int, last_batch: str = "drop"
) -> np.ndarray:
    """The images of steps start .. start + count - 1, int32 (count, images of a step).

    A smaller batch is to be asked for alone; the other arguments are those of `batch_sizes`.
    """
    per_epoch = len(batch_sizes(size, batch_size, last_batch))
    rows = []
    for step in range(start, start + count):
        epoch, place = divmod(step, per_epoch)
        rows.append(epoch_order(size, seed, epoch)[place * batch_size :][:batch_size])
    return np.stack(rows)
