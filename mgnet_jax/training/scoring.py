"""What a trained network makes of images, wherever it is asked: scores, predictions, exports."""

import dataclasses
from typing import Any

import jax

from mgnet_jax.data.augment import normalise
from mgnet_jax.models import Network


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
      model: the network.
      mean, std: per channel, see `data.augment.normalise`.
      flip: the logits are the mean of those of an image and of its mirror image, left to right
        (as Krizhevsky et al. 2012 average crops and their reflections); twice the work.
    """

    model: Network
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = False

    def normalised(self, images: jax.Array) -> jax.Array:
        """What the network takes, of pixels from 0 to 255."""
        return normalise(images, self.mean, self.std)

    def logits(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits (N, classes) of pixels (N, H, W, C) from 0 to 255; pure, to be traced."""
        x = self.normalised(images)
        found: Any = self.model.apply(variables, x, train=False)
        if not self.flip:
            return found
        mirrored: Any = self.model.apply(variables, x[:, :, ::-1], train=False)
        return (found + mirrored) / 2
