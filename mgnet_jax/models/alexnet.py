"""AlexNet (Krizhevsky, Sutskever and Hinton 2012), Table 4's baseline, in its three forms.

- with the CIFAR stem: the network of W. Yang's pytorch-classification (2,472,266 parameters with
  10 classes), which the paper's figures are from;
- with the ImageNet stem: the network of 2012, two towers as groups, local response normalisation,
  overlapping pools, dropout (60,965,224);
- `AlexNet@torchvision`, any stem: torchvision's, after Krizhevsky's one tower of 2014 (61,100,840).
"""

import dataclasses
import re
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mgnet_jax.models.iteration import record
from mgnet_jax.models.layers import (
    Array,
    Compute,
    Conv,
    Head,
    adaptive_average_pool,
    linear,
    max_pool,
)
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import Spec, SpecError
from mgnet_jax.models.reader import Reader

CONVOLUTIONS = {
    "cifar": (
        (64, 11, 4, 5, 1),
        (192, 5, 1, 2, 1),
        (384, 3, 1, 1, 1),
        (256, 3, 1, 1, 1),
        (256, 3, 1, 1, 1),
    ),
    "2012": (
        (96, 11, 4, 2, 1),
        (256, 5, 1, 2, 2),
        (384, 3, 1, 1, 1),
        (384, 3, 1, 1, 2),
        (256, 3, 1, 1, 2),
    ),
    "torchvision": (
        (64, 11, 4, 2, 1),
        (192, 5, 1, 2, 1),
        (384, 3, 1, 1, 1),
        (256, 3, 1, 1, 1),
        (256, 3, 1, 1, 1),
    ),
}
"""Channels, size, stride, padding and groups of each convolution."""


class AlexNet(Network):
    """AlexNet; see `Network` for its attributes."""

    @property
    def _variant(self) -> str:
        return self.spec.variant or {"cifar": "cifar", "imagenet": "2012"}[self.stem]

    @property
    def stems(self) -> tuple[str, ...]:
        """Of the two forms."""
        return ("cifar", "imagenet")

    @property
    def uses_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return self._variant != "cifar"

    @property
    def details(self) -> dict[str, str]:
        """What the parts do, for people."""
        sizes = enumerate((size for _, size, *_ in CONVOLUTIONS[self._variant]), 1)
        words = {f"conv{i}": f"{size}x{size}, ReLU" for i, size in sizes}
        return words | {"head": "linear" if self._variant == "cifar" else "3 linear layers"}

    @nn.compact
    def forward(self, images: Array, train: bool) -> Array:
        """The network itself."""
        compute, variant = self.compute, self._variant
        x = images
        for i, (c, size, stride, padding, groups) in enumerate(CONVOLUTIONS[variant], 1):
            x = Conv(
                c,
                size,
                stride,
                padding,
                groups,
                bias=True,
                norm=False,
                compute=compute,
                name=f"conv{i}",
            )(x, train)
            if variant == "2012" and i <= 2:
                x = local_response_norm(x)
            record(self, **{f"level{i}": x[None]})
            if i in (1, 2, 5):
                x = max_pool(x, 2 if variant == "cifar" else 3, 2)
        if variant == "cifar":
            return Head(self.num_classes, compute, name="head")(x)
        x = adaptive_average_pool(x, 6)
        return Classifier(self.num_classes, train, variant == "torchvision", compute, name="head")(
            x
        )


class Classifier(nn.Module):
    """Two hidden layers of 4096 with ReLU and dropout 1/2, and the linear layer to the classes.

    Its features (N, H, W, c) are flattened channels first, as PyTorch does.
    """

    num_classes: int
    train: bool
    dropout_first: bool
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)
        for i in (1, 2):
            if self.dropout_first:
                x = nn.Dropout(0.5, deterministic=not self.train, name=f"drop{i}")(x)
            x = nn.relu(linear(4096, x.shape[-1], self.compute, f"hidden{i}", x.dtype)(x))
            if not self.dropout_first:
                x = nn.Dropout(0.5, deterministic=not self.train, name=f"drop{i}")(x)
        x = x.astype(self.compute.param_dtype)
        return linear(self.num_classes, x.shape[-1], self.compute, "linear")(x)


def local_response_norm(x: Array, size: int = 5) -> Array:
    """X / (2 + 1e-4 S)^0.75, S the sum of squares over `size` neighbouring channels (2012)."""
    half = size // 2
    squares = lax.reduce_window(
        jnp.square(x),
        np.zeros((), x.dtype),  # a traced zero would have no gradient
        lax.add,
        (1, 1, 1, size),
        (1, 1, 1, 1),
        ((0, 0), (0, 0), (0, 0), (half, half)),
    )
    return x / (2 + 1e-4 * squares) ** 0.75


@dataclasses.dataclass(frozen=True)
class AlexNetSpec(Spec):
    """AlexNet: "" is the form that the stem asks for, "torchvision" is torchvision's."""

    begins: ClassVar[re.Pattern[str]] = re.compile("AlexNet")
    example: ClassVar[str] = "AlexNet"
    network: ClassVar[Any] = AlexNet

    variant: str = ""

    def __post_init__(self) -> None:
        if self.variant not in ("", "torchvision"):
            raise SpecError(f"variant={self.variant!r} is not one of '', 'torchvision'")

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `AlexNet` or `AlexNet@torchvision`."""
        reader.expect("AlexNet", "AlexNet")
        return cls("torchvision" if reader.accept("@torchvision") else "")

    @property
    def canonical(self) -> str:
        """`AlexNet`."""
        return f"AlexNet{'@' if self.variant else ''}{self.variant}"
