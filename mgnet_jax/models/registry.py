"""The families: a name's beginning decides which of them reads it. A new family is a line here."""

import re
from typing import Any

from mgnet_jax.models.alexnet import AlexNetSpec
from mgnet_jax.models.data_feature import DataFeatureSpec
from mgnet_jax.models.deep_resnet import DeepSpec
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.models.network import Network, build
from mgnet_jax.models.notation import Spec, SpecError
from mgnet_jax.models.reader import Reader
from mgnet_jax.models.resnet import ResNetSpec
from mgnet_jax.models.vgg import VGG19Spec

FAMILIES: tuple[type[Spec], ...] = (
    MgNetSpec,
    DataFeatureSpec,
    ResNetSpec,
    DeepSpec,
    AlexNetSpec,
    VGG19Spec,
)

SMALLEST = "MgNet[1,1]-[8]-B^l"
"""A network that has every part of ours and compiles fast, for checks."""


def parse(text: str) -> Spec:
    r"""Reads the name of a network, as the paper prints it or in its short form.

    `l`, `\ell` and the unicode ell are the same, and spaces may stand between any two symbols:
    `MgNet[2,2,2,2]-[256]-B^l`, `DataFeature(K,sKs)`, `A=A^l * σ, B=σ∘B^{l,i} *`,
    `pre-act ResNet18-A^l-B^{l,i}`, `ResNet34-A^{l,i}-B^l@table3`, `pre-act ResNet1001`,
    `WRN-28-10`, `AlexNet`, `VGG19`.

    Raises:
      SpecError: with a caret under the first place that does not fit.
    """
    if not isinstance(text, str):
        raise SpecError(f"the name of a network must be text, not {text!r}")
    reader = Reader(text)
    reader.skip_space()
    for family in FAMILIES:
        if family.begins.match(text, reader.place):
            reader.example = family.example
            spec = family.read(reader)
            reader.end()
            spec.set(written=text.strip())
            return spec
    reader.example = "; ".join(family.example for family in FAMILIES)
    any_case = (re.compile(family.begins.pattern, re.IGNORECASE) for family in FAMILIES)
    if any(begins.match(text, reader.place) for begins in any_case):
        reader.fail("the name of a network in its own upper and lower case")
    reader.fail("the name of a network")


def create(spec: str | Spec, /, num_classes: int, stem: str = "cifar", **options: Any) -> Network:
    """Makes the network of that name.

    Args:
      spec: for example `MgNet[2,2,2,2]-[256]-B^l`, see `parse`, or a spec.
      num_classes: classes, at least 1.
      stem: "cifar" (also MNIST's), "imagenet" or "half", see `Network`.
      **options: see `Network`: form, unroll, remat, dtype, initializer, convolution; and Flax's
        own `name` and `parent`.

    Returns:
      A Flax module: `model.init(rng, images)` gives its variables, `model.apply(variables, images,
      train=False)` the logits (N, num_classes) of images (N, H, W, channels). Initial values under
      `jax.jit` can differ from those without in the last digit (1e-7), as XLA fuses them.

    Raises:
      SpecError: the name cannot be read.
      ModelError: an option is unknown or has a value that it cannot have.
    """
    spec = spec if isinstance(spec, Spec) else parse(spec)
    return build(spec, num_classes=num_classes, stem=stem, **options)
