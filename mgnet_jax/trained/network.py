"""A trained network in one's hands: probabilities, features, facts."""

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from mgnet_jax.config import default, from_json
from mgnet_jax.models import Network, features
from mgnet_jax.trained import hub
from mgnet_jax.training.initial import read_weights
from mgnet_jax.training.scoring import Scoring
from mgnet_jax.weights.facts import Facts, Weights


class ImagesError(ValueError):
    """Images cannot be given to a network as they are; the message says what is wanted."""

    exit_code = 2


def load(source: str | Path, checkpoint: str = "last") -> "Trained":
    """A trained network, without its training data.

    Args:
      source: the folder of a run, the folder that --mode=export wrote, or a file with the state
        dict of a network of PyTorch (torchvision's, or the published MgNet's); or hf://USER/NAME,
        what --mode=export --push=USER/NAME put on the Hugging Face Hub.
      checkpoint: of a run: "last", "best" or a step.

    Raises:
      CheckpointError: there is no such checkpoint of the run.
      WeightsError: there are no weights, or they cannot be read.
    """
    name = str(source)
    folder = str(hub.fetch(name)) if name.startswith(hub.PREFIX) else name
    return Trained(read_weights(folder, checkpoint))


class Trained:
    """A trained network.

    Images are NumPy arrays (N, H, W, C), or one image (H, W, C); without the last axis if they have
    one channel. uint8 are pixels, floats are pixels / 255, from 0 to 1. They are normalised here.
    Their size may be another than that of training, if the network can take it.

    Args:
      weights: what it is made of.
      **options: of `models.create`, in place of the run's: form, dtype, convolution, ...

    Attributes:
      facts: what is known of it, see `weights.facts.Facts`.
      model: the Flax module.
    """

    def __init__(self, weights: Weights, **options: Any):
        self.facts: Facts = weights.facts
        self.arrays = weights.variables
        self.model: Network = weights.facts.network(**options)

    def __repr__(self) -> str:
        """Returns what it is, on one line."""
        return f"<{self.spec}, {self.facts.num_classes} classes, from {self.facts.source}>"

    @property
    def spec(self) -> str:
        """The network's name, in the paper's notation."""
        return self.facts.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order; the numbers of the classes where they have no names."""
        return self.facts.class_names or tuple(map(str, range(self.facts.num_classes)))

    @property
    def config(self) -> ConfigDict:
        """The configuration of the run; the defaults with this network for other weights."""
        if self.facts.config:
            return from_json(json.dumps(dict(self.facts.config)))
        config = default()
        config.model.spec, config.model.stem = self.spec, self.facts.stem
        return config

    @cached_property
    def variables(self) -> Any:
        """{"params": ..., "batch_stats": ...}, for `model.apply`."""
        with self.precision():
            tree = unflatten_dict({k: jnp.asarray(x) for k, x in self.arrays.items()}, sep="/")
        return {"batch_stats": {}} | tree

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """JAX with float64 inside, for a network of that type."""
        if self.facts.dtype != "float64":
            yield
            return
        with jax.enable_x64(True):
            yield

    def logits_of(self, variables: Any, images: jax.Array) -> jax.Array:
        """Logits (N, classes) of uint8 pixels or of floats from 0 to 1; pure, to be traced."""
        return self.scoring.logits(variables, _pixels(images))

    @cached_property
    def scoring(self) -> Scoring:
        """How its images are scored: as the run scored them, with other views or without."""
        known = self.facts.config
        flip, shift = bool(known.get("eval.flip", False)), int(known.get("eval.shift", 0))
        return Scoring(self.model, self.facts.mean, self.facts.std, flip, shift)

    @cached_property
    def _probabilities(self) -> Any:
        return jax.jit(lambda v, x: jax.nn.softmax(self.logits_of(v, x), -1))

    @cached_property
    def _logits(self) -> Any:
        return jax.jit(self.logits_of)

    def predict(self, images: Any, batch_size: int = 128) -> np.ndarray:
        """The probability of each class, (N, classes); column i is that of `class_names[i]`.

        Args:
          images: see the class.
          batch_size: images computed at once; no effect on the result but in the last digits.

        Raises:
          ImagesError: the images have another shape or range.
          ModelError: the network cannot take images of that size.
        """
        return self._in_batches(self._probabilities, images, batch_size)

    def logits(self, images: Any, batch_size: int = 128) -> np.ndarray:
        """The logits of each class, (N, classes); arguments as for `predict`."""
        return self._in_batches(self._logits, images, batch_size)

    def features(self, images: Any) -> dict[str, dict[str, np.ndarray]]:
        """What the network computes on its way, see `models.features`, as NumPy arrays."""
        x = self._as_batch(images)
        with self.precision():
            normalised = self.scoring.normalised(_pixels(jnp.asarray(x)))
            found = features(self.model, self.variables, normalised)
            return jax.tree.map(np.asarray, found)

    def _in_batches(self, compute: Any, images: Any, batch_size: int) -> np.ndarray:
        """A function of the variables and a batch, of all images; few batch sizes are compiled."""
        x = self._as_batch(images)
        if batch_size < 1:
            raise ImagesError(f"batch_size={batch_size} must be at least 1")
        size = min(batch_size, 1 << max(len(x) - 1, 0).bit_length())
        parts = [np.zeros((0, self.facts.num_classes), np.float32)]
        with self.precision():
            for begin in range(0, len(x), size):
                part = x[begin : begin + size]
                rest = size - len(part)
                filled = np.concatenate([part, np.repeat(part[-1:], rest, 0)]) if rest else part
                parts.append(np.asarray(compute(self.variables, filled))[: len(part)])
        return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]

    def _as_batch(self, images: Any) -> np.ndarray:
        """Images (N, H, W, C), uint8 or float32."""
        x, channels = np.asarray(images), self.facts.image_shape[2]
        wanted = (
            f"uint8 pixels or floats from 0 to 1, of the shape (N, height, width, {channels}) or "
            f"(height, width, {channels})"
        )
        if channels == 1 and (x.ndim == 2 or (x.ndim == 3 and x.shape[2] != 1)):
            x = x[..., None]
        if x.ndim == 3:
            x = x[None]
        if x.ndim != 4 or x.shape[3] != channels:
            raise ImagesError(f"images have the shape {np.shape(images)}: give {wanted}")
        if x.dtype == np.uint8:
            return x
        if not np.issubdtype(x.dtype, np.floating):
            raise ImagesError(f"images are of type {x.dtype}: give {wanted}")
        if x.size and not (np.min(x) >= 0 and np.max(x) <= 1):
            raise ImagesError(
                f"images are floats from {np.min(x):g} to {np.max(x):g}: give {wanted}; they are "
                f"normalised here"
            )
        return (
            x if x.dtype == np.float64 and self.facts.dtype == "float64" else x.astype(np.float32)
        )


def _pixels(images: jax.Array) -> jax.Array:
    """From 0 to 255, of uint8 pixels or of floats from 0 to 1."""
    return images if images.dtype == jnp.uint8 else images * 255
