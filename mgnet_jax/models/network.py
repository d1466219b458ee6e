"""What all networks have in common: their options, and the checks of what they are given."""

import dataclasses
import difflib
import numbers
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.convolution import ALGORITHMS
from mgnet_jax.models.layers import Array, Compute
from mgnet_jax.models.notation import ModelError, Spec

PAPER = (
    "He, Xu, Zhang and Zhu, *An Interpretive Constrained Linear Model for ResNet and MgNet* "
    "(Neural Networks 2023)"
)
"""Whose networks these are, as Markdown."""
CHOICES: dict[str, tuple[str, ...]] = {
    "stem": ("cifar", "imagenet", "half"),
    "form": ("auto", "dual", "direct"),
    "remat": ("none", "norms", "steps"),
    "dtype": ("float32", "bfloat16", "float64"),
    "initializer": ("kaiming", "pytorch"),
    "convolution": ALGORITHMS,
    "output": ("classes", "pixels"),
}
"""The values of the options that are one of a few words."""


class Network(nn.Module):
    """Maps images (N, H, W, channels), float, to logits (N, num_classes).

    A family derives from it and gives `forward`.

    Attributes:
      spec: what the network's name says.
      num_classes: classes.
      stem: "cifar" (3x3, stride 1; also MNIST's), "imagenet" (7x7 stride 2, max-pool 3x3/2) or
        "half" (4x4, stride 2: the finest grid has half the height and width, a quarter of the
        work; it begins as a cosine transform; ours). AlexNet and VGG have a form for each of the
        first two.
      form: "dual" (Theorem 4.1) or "direct" (Algorithms 2 and 3); the same function and
        parameters. "auto" is dual where A is linear, else direct.
      unroll: a grid's steps are compiled as straight-line code if they are at most so many, else
        as a loop; slower to compile, faster to run.
      remat: what the backward pass computes again, to save memory: "none"; "norms", batch norm and
        ReLU, so that of a smoothing step what goes into its two batch norms is kept, about half;
        "steps", each step whole, which keeps what it starts from and takes a third more work. A
        grid's steps are a loop then.
      dtype: type of the activations: "float32", "bfloat16" or "float64". Parameters, batch
        statistics and logits are float32 (float64 for "float64").
      initializer: "kaiming" (the paper's) or "pytorch" (the published script's).
      convolution: "auto", "xla" for XLA's own, whose gradients are slow in loops on CPUs,
        "minimal", faster on CPUs for wide networks, or "native", fastest on one CPU, which needs a
        C++ compiler, see `convolution.conv`. All can be differentiated in forward and in reverse
        mode; `jax.shard_map` on CPUs takes "xla".
      output: "classes", logits of the image, or "pixels", of each pixel of the finest grid,
        (N, H, W, num_classes), of networks that come back to it, as MgNet-V.
    """

    spec: Any
    num_classes: int
    stem: str = "cifar"
    form: str = "auto"
    unroll: int = 4
    remat: str = "none"
    dtype: str = "float32"
    initializer: str = "kaiming"
    convolution: str = "auto"
    output: str = "classes"

    why_not: ClassVar[str] = "its blocks are written in one form"
    """Why a form is missing, for the message."""

    @property
    def uses_dropout(self) -> bool:
        """Whether training draws random numbers, from the key "dropout"."""
        return False

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that there are for this family; the first is what "auto" means."""
        return ("dual",)

    @property
    def stems(self) -> tuple[str, ...]:
        """The stems that there are for this family."""
        return CHOICES["stem"]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that there are for this network."""
        return ("classes",)

    def __call__(self, images: Array, train: bool = False) -> Array:
        """Logits of images; in training, batch norm is over the batch (N, H, W)."""
        self._check(images)
        if train and self.uses_dropout and not self.has_rng("dropout"):
            raise ModelError(
                f"{self.spec} has dropout: training it needs apply(..., rngs={{'dropout': key}})"
            )
        return self.forward(images.astype(self.dtype), train)

    def forward(self, images: Array, train: bool) -> Array:
        """The network itself."""
        raise TypeError(f"{type(self).__name__} has no forward")

    @property
    def details(self) -> dict[str, str]:
        """What the parts do, {name in the parameter tree: words}, for people."""
        return self.spec.details

    @property
    def computed_form(self) -> str:
        """The form that "auto" stands for, or the one asked for."""
        return self.forms[0] if self.form == "auto" else self.form

    @property
    def compute(self) -> Compute:
        """The options that the parts of the network take."""
        param_dtype = jnp.float64 if self.dtype == "float64" else jnp.float32
        return Compute(self.initializer, param_dtype, self.unroll, self.remat, self.convolution)

    def check_options(self) -> None:
        """Raises ModelError if this family has no such form, stem or output."""
        if self.form not in ("auto", *self.forms):
            raise ModelError(
                f"form={self.form!r} is not there for {self.spec}: {self.why_not}; "
                f"leave form='auto'"
            )
        if self.stem not in self.stems:
            raise ModelError(
                f"stem={self.stem!r} is not there for {self.spec}, which has its own first layers: "
                f"{' or '.join(map(repr, self.stems))}"
            )
        if self.output not in self.outputs:
            raise ModelError(
                f"output={self.output!r} is not there for {self.spec}, which ends on its coarsest "
                f"grid; a network that comes back to the finest one is MgNet-V[2,2]-[32]-B^l"
            )

    def _check(self, images: Any) -> None:
        self.check_options()
        if not hasattr(images, "ndim") or not hasattr(images, "dtype"):
            raise ModelError(
                f"images must be an array (N, height, width, channels), not {type(images).__name__}"
                f"; jax.numpy.asarray makes one"
            )
        if images.ndim != 4:
            raise ModelError(f"images must be (N, height, width, channels), not {images.shape}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ModelError(
                f"images are {images.dtype}; give floats, normalised as in training: "
                f"(images / 255 - mean) / std"
            )
        _, height, width, channels = images.shape
        if height <= 4 < min(width, channels):
            raise ModelError(
                f"images of shape {images.shape} look like (N, channels, height, width); give "
                f"(N, height, width, channels), as images.transpose(0, 2, 3, 1)"
            )
        if not height or not width:
            raise ModelError(f"images of shape {images.shape} have no pixels")
        if self.dtype == "float64" and not jax.config.read("jax_enable_x64"):
            raise ModelError("dtype='float64' needs jax.config.update('jax_enable_x64', True)")


_OPTIONS = tuple(
    field.name
    for field in dataclasses.fields(Network)
    if field.name not in ("spec", "parent", "name")
)


def build(spec: Spec, **options: Any) -> Network:
    """The network of a spec with options as `Network` has them, and Flax's own name and parent.

    Raises:
      ModelError: an option is unknown or has a value that it cannot have.
    """
    flax_own = {key: options.pop(key) for key in ("name", "parent") if key in options}
    checked = {key: _checked(key, value) for key, value in options.items()}
    network = spec.network(spec, **checked, **flax_own)
    network.check_options()
    return network


def _checked(key: str, value: Any) -> Any:
    if key not in _OPTIONS:
        near = difflib.get_close_matches(key, _OPTIONS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelError(f"unknown option {key}={value!r}; {hint}there are {', '.join(_OPTIONS)}")
    if key == "dtype" and not isinstance(value, str):
        try:
            value = jnp.dtype(value).name
        except TypeError:
            raise ModelError(f"dtype={value!r} is not one of {', '.join(CHOICES[key])}") from None
    if key in CHOICES and value not in CHOICES[key]:
        raise ModelError(f"{key}={value!r} is not one of {', '.join(CHOICES[key])}")
    if key in ("num_classes", "unroll"):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{key}={value!r} must be a whole number >= 1")
        value = int(value)
    return value
