"""What data sets are made of: images in memory, photographs read one at a time, facts, errors.

Nothing here starts JAX: workers that read photographs import it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np


class DataError(ValueError):
    """A data set cannot be read as asked.

    The message names the file or folder, and what was found for what was expected or the remedy.
    """

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images, uint8 (N, H, W, C) with values 0 to 255, and their labels, int32 (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Returns the number of images, N."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Info:
    """What is known of a set without reading a file.

    `image_shape` is (H, W, C); the sizes are those published (the files may hold fewer images);
    `mean` and `std` are per channel, over all training pixels divided by 255.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    train_size: int
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Photographs(Protocol):
    """The photographs of a split, of any size, read one at a time; can be pickled for a worker."""

    @property
    def labels(self) -> np.ndarray | None:
        """int32 (N,), from 0; None where only reading every photograph would tell."""

    def __len__(self) -> int:
        """Returns the number of photographs, N."""

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Returns an upright JPEG of 8 bits and 1 or 3 components, and its label.

        Raises:
          DataError: it cannot be read, or is none; the message names the file.
        """

    def name(self, index: int) -> str:
        """Returns what to call a photograph when speaking to people."""

    def traits(self) -> Iterator[bytes]:
        """Gives what the split is known by, wherever it lies; found out in seconds."""


class Subset:
    """Some of the photographs of a split, by their indices."""

    def __init__(self, whole: Photographs, indices: np.ndarray):
        self.whole, self.indices = whole, indices
        self.labels = None if whole.labels is None else whole.labels[indices]

    def __len__(self) -> int:
        """Returns their number."""
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Returns what the whole split has there."""
        return self.whole[int(self.indices[index])]

    def name(self, index: int) -> str:
        """Returns what to call a photograph."""
        return self.whole.name(int(self.indices[index]))

    def traits(self) -> Iterator[bytes]:
        """Gives what the whole is known by, and which of it these are."""
        yield from self.whole.traits()
        yield self.indices.tobytes()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a source of photographs holds: the names of its classes in label order, two splits.

    `train` is None where only the test split is there.
    """

    class_names: tuple[str, ...]
    train: Photographs | None
    test: Photographs
