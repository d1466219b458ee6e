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


def batch_indices(size: int, batch_size: int, seed: int, start: int, count: int) -> np.ndarray:
    """The images of steps start .. start + count - 1, int32 (count, batch_size).

    An epoch is size // batch_size steps; the images left over at its end, others in every epoch,
    are not used in it.
    """
    per_epoch = size // batch_size
    rows = np.empty((count, batch_size), np.int32)
    for row, step in zip(rows, range(start, start + count), strict=True):
        epoch, place = divmod(step, per_epoch)
        row[:] = epoch_order(size, seed, epoch)[place * batch_size :][:batch_size]
    return rows
