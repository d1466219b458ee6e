"""The order of the images: which of them each step of each epoch trains on.

It is a function of the seed and the step alone, so that a run can go on from any step exactly.
"""

import dataclasses
from functools import cached_property, lru_cache

import numpy as np


@lru_cache(maxsize=2)
def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(size) that depends on the seed and the epoch (from 0) alone."""
    return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Batches:
    """How the images of an epoch make batches.

    Attributes:
      size: training images.
      batch_size: images of a step.
      parts: equal parts of a batch, trained on one after the other.
      last_batch: "drop" if the images left over at an epoch's end, others in every epoch, are not
        used in it, "use" if they make a smaller batch.
      seed: of the order.
    """

    size: int
    batch_size: int
    parts: int = 1
    last_batch: str = "drop"
    seed: int = 0

    @cached_property
    def sizes(self) -> list[int]:
        """The number of images of each step of an epoch, of which only the last may have fewer."""
        full, left = divmod(self.size, self.batch_size)
        return [self.batch_size] * full + [left] * (self.last_batch == "use" and left > 0)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.sizes)

    def of_step(self, step: int) -> int:
        """The number of images of a step."""
        return self.sizes[step % self.steps]

    def same_size(self, begin: int, end: int) -> list[tuple[int, int, int]]:
        """Steps begin .. end - 1 of one epoch by the size of their batches.

        These are (images, first step, step beyond): only an epoch's last may have fewer images.
        """
        size, last = self.of_step(begin), self.of_step(end - 1)
        full = end if last == size else end - 1
        parts = (size, begin, full), (last, full, end)
        return [part for part in parts if part[1] < part[2]]

    def indices(self, start: int, count: int) -> np.ndarray:
        """The images of steps start .. start + count - 1: int32 (count, parts, images of a part).

        A smaller batch is to be asked for alone.
        """
        rows = []
        for step in range(start, start + count):
            epoch, place = divmod(step, self.steps)
            order = epoch_order(self.size, self.seed, epoch)
            rows.append(order[place * self.batch_size :][: self.batch_size])
        return np.stack(rows).reshape(count, self.parts, -1)
