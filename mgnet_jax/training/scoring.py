"""What a trained network makes of images, wherever it is asked: scores, predictions, exports."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

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
      shift: half of the mean is of an image shifted by so many pixels down and right, and up and
        left, its edges reflected (Jordan 2024); three times the work. 0: not.
    """

    model: Network
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = False
    shift: int = 0

    def normalised(self, images: jax.Array) -> jax.Array:
        """What the network takes, of pixels from 0 to 255."""
        return normalise(images, self.mean, self.std)

    def logits(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits (N, classes) of pixels (N, H, W, C) from 0 to 255; pure, to be traced."""

        def of(x: jax.Array) -> Any:
            return self.model.apply(variables, x, train=False)

        first, *others = (share * of(x) for x, share in self.views(self.normalised(images)))
        return sum(others, first)

    def views(self, x: jax.Array) -> list[tuple[jax.Array, float]]:
        """The images (N, H, W, C) that are scored for images, and the share of each in the mean."""
        views = [(x, 1.0)]
        if self.shift:
            views = [(x, 0.5), (shifted(x, self.shift), 0.25), (shifted(x, -self.shift), 0.25)]
        if self.flip:
            views = [(y, share / 2) for x, share in views for y in (x, x[:, :, ::-1])]
        return views


def shifted(x: jax.Array, by: int) -> jax.Array:
    """Images (N, H, W, C) shifted by so many pixels down and right, or up and left, reflected."""
    height, width = x.shape[1:3]
    pad, start = abs(by), abs(by) - by
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect")
    return padded[:, start : start + height, start : start + width]
