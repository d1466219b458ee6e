"""How a photograph becomes an image of one size: by an area at random, or by its middle."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mgnet_jax.data.info import DataError, Photographs
from mgnet_jax.data.photographs import codec
from mgnet_jax.data.photographs.folders import REMEDY

Images = tuple[Any, Any]
"""Images, uint8 (N, H, W, C), and labels, int32 (N,); -1 is the label of what only fills up."""


class Photograph(NamedTuple):
    """A photograph, its label, and where it is from, to be named if it cannot be decoded."""

    jpeg: bytes
    label: int
    split: Photographs | None
    place: int


@dataclasses.dataclass(frozen=True)
class Cut:
    """How a photograph becomes an image.

    Attributes:
      image_shape: (H, W, C) of the image.
      area: smallest part of a photograph's area in a random crop; 1: the central crop, always.
      shorter_side: what a photograph's shorter side is scaled to before its central crop, pixels.
      decoder: of random crops, from `codec.find_decoder`.
    """

    image_shape: tuple[int, int, int]
    area: float
    shorter_side: int
    decoder: str

    def random(self, photograph: Photograph, rng: np.random.Generator) -> Images:
        """An image to train on, and its label."""
        if self.area == 1:
            return self.central(photograph)
        height, width, channels = self.image_shape
        with _named(photograph):
            image = codec.random_crop(
                photograph.jpeg, (height, width), channels, self.area, rng, self.decoder
            )
        return image, np.int32(photograph.label)

    def central(self, photograph: Photograph) -> Images:
        """An image to score, and its label."""
        if photograph.label < 0:
            return np.zeros(self.image_shape, np.uint8), np.int32(photograph.label)
        height, width, channels = self.image_shape
        with _named(photograph):
            image = codec.central_crop(
                photograph.jpeg, (height, width), self.shorter_side, channels
            )
        return image, np.int32(photograph.label)


@contextlib.contextmanager
def _named(photograph: Photograph) -> Iterator[None]:
    """Names the photograph in an error of decoding it."""
    try:
        yield
    except DataError as error:
        name = photograph.split.name(photograph.place) if photograph.split else "?"
        raise DataError(f"{name}: {error}; {REMEDY}") from error
