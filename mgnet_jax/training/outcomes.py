"""What a network makes of each test image: which class it takes it for, and how sure it is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.training.job import Job
from mgnet_jax.training.progress import table

MOST = 20
"""Classes up to which a confusion table fits a screen."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """One entry a test image, in the order of the set.

    Attributes:
      labels: its class, int32 (N,).
      taken_for: the most probable class, int32 (N,).
      probability: of that class, float32 (N,).
    """

    labels: np.ndarray
    taken_for: np.ndarray
    probability: np.ndarray

    def confusion(self, classes: int) -> np.ndarray:
        """How many images of a class (row) are taken for a class (column), (classes, classes)."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.labels, self.taken_for), 1)
        return counts

    def most_sure(self, right: bool, count: int) -> np.ndarray:
        """The images that are taken for a class with the most certainty, rightly or wrongly."""
        order = np.argsort(-self.probability, kind="stable")
        return order[(self.taken_for == self.labels)[order] == right][:count]


def look(job: Job, variables: Any) -> Outcomes:
    """What a network makes of each test image; for one process.

    Args:
      job: of the network and its data.
      variables: of the network.

    Raises:
      DataError, OSError: images cannot be read.
    """
    split = job.scored_feeds["test"]

    @jax.jit
    def one_batch(variables: Any, arrays: Any) -> tuple[jax.Array, ...]:
        images, labels = split.batch(arrays, 0)
        logits = job.scoring.logits(variables, images)
        p = jax.nn.softmax(logits.astype(jnp.float32), -1)
        found = jnp.argmax(p, -1).astype(jnp.int32)
        return labels, found, jnp.max(p, -1)

    batches = []
    try:
        for first in range(split.batches):
            batches.append(jax.device_get(one_batch(variables, split.arrays(first, 1))))
    finally:
        split.close()
    columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    there = columns[0] >= 0
    return Outcomes(*(column[there] for column in columns))


def first_images(job: Job, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images as they are scored, uint8 (N, H, W, C), and their labels, (N,).

    Args:
      job: of the data.
      count: how many; fewer if there are no more.

    Raises:
      DataError, OSError: images cannot be read.
    """
    split = job.scored_feeds["test"]
    one_batch = jax.jit(lambda arrays: split.batch(arrays, 0))
    images, labels, found = [], [], 0
    try:
        for first in range(split.batches):
            some, theirs = jax.device_get(one_batch(split.arrays(first, 1)))
            there = theirs >= 0
            images.append(some[there])
            labels.append(theirs[there])
            found += int(there.sum())
            if found >= count:
                break
    finally:
        split.close()
    return np.concatenate(images)[:count], np.concatenate(labels)[:count]


def confusion_table(counts: np.ndarray, names: Sequence[str]) -> str:
    """The confusion by class name, for the screen: a row a class, with the share that is right."""
    short = [str(i) for i in range(len(names))]
    rows: list[dict[str, object]] = []
    for i, name in enumerate(names):
        total = int(counts[i].sum())
        row: dict[str, object] = {"class": f"{i} {name}" if name != short[i] else name}
        row |= {short[j]: int(counts[i, j]) or "." for j in range(len(names))}
        row["right"] = f"{100 * counts[i, i] / total:.1f} %" if total else "-"
        rows.append(row)
    return f"images of a class (row) taken for a class (column):\n\n{table(rows)}"
