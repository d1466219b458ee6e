"""What data sets are made of: images in memory, photographs read one at a time, facts, errors.

Nothing here starts JAX: workers that read photographs import it.
"""

import dataclasses
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
    """The photographs of a split, of any size, read one at a time; can be pickled for a worker.

    Attributes:
      labels: int32 (N,), from 0; None where only reading every photograph would tell.
    """

    labels: np.ndarray | None

    def __len__(self) -> int:
        """Returns the number of photographs, N."""

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Returns an upright JPEG of 8 bits and 1 or 3 components, and its label.

        Raises:
          DataError: it cannot be read, or is none; the message names the file.
        """

    def name(self, index: int) -> str:
        """Returns what to call a photograph when speaking to people."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a source of photographs holds: the names of its classes in label order, two splits."""

    class_names: tuple[str, ...]
    train: Photographs
    test: Photographs
