"""VGG19 (Simonyan and Zisserman 2015), Table 4's baseline.

- with the CIFAR stem: with batch norm and one linear layer, as in W. Yang's pytorch-classification
  (20,040,522 parameters with 10 classes), which the paper's figures are from;
- with the ImageNet stem: the network of the paper, as torchvision has it (143,667,240).
"""

import dataclasses
import re
from typing import Any, ClassVar, Self

from flax import linen as nn

from mgnet_jax.models.alexnet import Classifier
from mgnet_jax.models.iteration import record
from mgnet_jax.models.layers import Array, Conv, Head, adaptive_average_pool, max_pool
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import Spec
from mgnet_jax.models.reader import Reader

STAGES = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


class VGG19(Network):
    """VGG19; see `Network` for its attributes."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Of the two forms."""
        return ("cifar", "imagenet")

    @property
    def uses_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return self.stem == "imagenet"

    @property
    def details(self) -> dict[str, str]:
        """What the parts do, for people."""
        conv = "3x3, ReLU" if self.stem == "imagenet" else "3x3, BN, ReLU"
        names = (f"conv{level}_{i}" for level in range(1, 6) for i in range(1, 5))
        head = "3 linear layers" if self.stem == "imagenet" else "linear"
        return dict.fromkeys(names, conv) | {"head": head}

    @nn.compact
    def forward(self, images: Array, train: bool) -> Array:
        """The network itself."""
        compute, imagenet = self.compute, self.stem == "imagenet"
        x = images
        for level, (count, c) in enumerate(STAGES, 1):
            for i in range(1, count + 1):
                conv = Conv(
                    c, bias=True, norm=not imagenet, compute=compute, name=f"conv{level}_{i}"
                )
                x = conv(x, train)
            record(self, **{f"level{level}": x[None]})
            x = max_pool(x, 2, 2)
        if not imagenet:
            return Head(self.num_classes, compute, name="head")(x)
        x = adaptive_average_pool(x, 7)
        return Classifier(self.num_classes, train, False, compute, name="head")(x)


@dataclasses.dataclass(frozen=True)
class VGG19Spec(Spec):
    """VGG19."""

    begins: ClassVar[re.Pattern[str]] = re.compile(r"VGG")
    example: ClassVar[str] = "VGG19"
    network: ClassVar[Any] = VGG19

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `VGG19`."""
        reader.expect("VGG", "VGG19")
        reader.skip_space()
        place = reader.place
        if reader.number("layers") != 19:
            reader.place = place
            reader.fail("19, the one VGG of the paper")
        return cls()

    @property
    def canonical(self) -> str:
        """`VGG19`."""
        return "VGG19"
