"""The networks: `create` makes one from the paper's name of it."""

import difflib
import numbers
from typing import Any

import jax.numpy as jnp

from mgnet_jax.models.iteration import FORMS
from mgnet_jax.models.mgnet import MgNet
from mgnet_jax.models.spec import MgNetSpec, ModelError, SpecError, modify, parse

__all__ = [
    "CHOICES", "MgNet", "MgNetSpec", "ModelError", "Network", "SpecError", "create", "modify",
    "parse",
]  # fmt: skip

Network = MgNet
"""What `create` makes, for annotations."""

CHOICES: dict[str, tuple[str, ...]] = {
    "stem": ("cifar", "imagenet"),
    "form": FORMS,
    "dtype": ("float32", "bfloat16", "float64"),
    "initializer": ("kaiming", "pytorch"),
}
"""The values of the options that are one of a few words."""

_OPTIONS = ("num_classes", "stem", "form", "unroll", "remat", "dtype", "initializer")


def create(
    spec: str | MgNetSpec, /, num_classes: int, stem: str = "cifar", **options: Any
) -> MgNet:
    """Makes the network of that name, as the paper writes it.

    Args:
      spec: for example `MgNet[2,2,2,2]-[256]-B^l`, or a spec.
      num_classes: classes, at least 1.
      stem: "cifar" (also MNIST's) or "imagenet".
      **options: see `MgNet`: form, unroll, remat, dtype, initializer; and Flax's own `name` and
        `parent`.

    Returns:
      A Flax module: `model.init(rng, images)` gives its variables, `model.apply(variables, images,
      train=False)` the logits (N, num_classes) of images (N, H, W, channels), and
      `model.count_parts((height, width, channels))` what it costs.

    Raises:
      SpecError: the name cannot be read.
      ModelError: an option is unknown or has a value that it cannot have.
    """
    flax_own = {key: options.pop(key) for key in ("name", "parent") if key in options}
    options = {"num_classes": num_classes, "stem": stem, **options}
    checked = {key: _checked(key, value) for key, value in options.items()}
    return MgNet(parse(spec) if isinstance(spec, str) else spec, **checked, **flax_own)


def _checked(key: str, value: Any) -> Any:
    if key not in _OPTIONS:
        near = difflib.get_close_matches(key, _OPTIONS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelError(f"unknown option {key}={value!r}; {hint}there are {', '.join(_OPTIONS)}")
    if key == "dtype" and not isinstance(value, str):
        value = jnp.dtype(value).name
    if key in CHOICES and value not in CHOICES[key]:
        raise ModelError(f"{key}={value!r} is not one of {', '.join(CHOICES[key])}")
    if key in ("num_classes", "unroll"):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{key}={value!r} must be a whole number >= 1")
        value = int(value)
    if key == "remat" and not isinstance(value, bool):
        raise ModelError(f"remat={value!r} must be True or False")
    return value
