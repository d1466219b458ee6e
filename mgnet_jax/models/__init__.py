"""The networks: `create` makes one from the paper's name of it, `count_parts` counts its costs."""

import difflib
from typing import Any

from mgnet_jax.models.iteration import FORMS
from mgnet_jax.models.mgnet import MgNet, count_parts
from mgnet_jax.models.spec import MgNetSpec, ModelError, SpecError, modify, parse

__all__ = [
    "CHOICES", "MgNet", "MgNetSpec", "ModelError", "SpecError", "count_parts", "create", "modify",
    "parse",
]  # fmt: skip

CHOICES: dict[str, tuple[str, ...]] = {
    "stem": ("cifar", "imagenet"),
    "form": FORMS,
    "dtype": ("float32", "bfloat16", "float64"),
    "initializer": ("kaiming", "pytorch"),
}
"""The values of the options that are one of a few words."""


def create(name: str | MgNetSpec, num_classes: int, stem: str = "cifar", **options: Any) -> MgNet:
    """Makes the network of that name, as the paper writes it.

    Args:
      name: for example `MgNet[2,2,2,2]-[256]-B^l`, or a spec.
      num_classes: classes, at least 1.
      stem: "cifar" (also MNIST's) or "imagenet".
      **options: see `MgNet`: form, unroll, remat, dtype, initializer.

    Returns:
      A Flax module: `model.init(rng, images)` gives its variables, `model.apply(variables, images,
      train=False)` the logits (N, num_classes) of images (N, H, W, channels).

    Raises:
      SpecError: the name cannot be read.
      ModelError: an option is unknown or has a value that it cannot have.
    """
    spec = parse(name) if isinstance(name, str) else name
    options = {"num_classes": num_classes, "stem": stem, **options}
    known = [
        field for field in MgNet.__dataclass_fields__ if field not in ("spec", "parent", "name")
    ]
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ModelError(f"unknown option {key}={value!r}{hint} Options: {', '.join(known)}.")
        if key in CHOICES and value not in CHOICES[key]:
            raise ModelError(f"{key}={value!r} is not one of {', '.join(CHOICES[key])}")
        if key in ("num_classes", "unroll") and not (type(value) is int and value >= 1):
            raise ModelError(f"{key}={value!r} must be a whole number >= 1")
        if key == "remat" and not isinstance(value, bool):
            raise ModelError(f"remat={value!r} must be True or False")
    return MgNet(spec, **options)
