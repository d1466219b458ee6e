"""Which images of a set are held out of it."""

from typing import Any

import numpy as np

from mgnet_jax.data.info import DataError, ImageSet, Subset


def choose(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses `count` of N images at random, without replacement, in proportion in each class.

    A class of n images gives n * count / N of them, rounded down or up. The same arguments give
    the same choice.

    Args:
      labels: integer (N,).
      count: how many are chosen.
      seed: of the choice.

    Returns:
      bool (N,), true for those chosen.

    Raises:
      DataError: unless 0 <= count < N.
    """
    total = len(labels)
    if not 0 <= count < total:
        raise DataError(f"cannot hold out {count} of {total} images: give 0 to {total - 1}")
    random = np.random.default_rng((seed, total, count))
    shuffled = random.permutation(total)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    chosen = np.zeros(total, bool)
    # equal steps through the classes laid end to end, from a random start
    chosen[by_class[(np.arange(count) * total + random.integers(total)) // count]] = True
    return chosen


def split(images: Any, count: int, seed: int) -> tuple[Any, Any]:
    """Splits off `count` images, see `choose`; both parts keep the order.

    Photographs whose labels are not known without reading them are chosen from as if of one class.

    Args:
      images: `ImageSet` or `Photographs`.
      count: how many are held out.
      seed: of the choice.

    Returns:
      (kept, held out), of the same kind.
    """
    if not count:
        return images, None
    labels = images.labels if images.labels is not None else np.zeros(len(images), np.int32)
    held = choose(labels, count, seed)
    if isinstance(images, ImageSet):
        kept, out = (ImageSet(images.images[m], images.labels[m]) for m in (~held, held))
        return kept, out
    return Subset(images, np.flatnonzero(~held)), Subset(images, np.flatnonzero(held))
