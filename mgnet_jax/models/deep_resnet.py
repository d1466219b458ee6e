"""The deep ResNets of Table 4: bottlenecks, pre-activated or not, and wide ones.

Blocks in a row, none of them shared; the blocks of a stage that keep its size run in `nn.scan`, so
that depth costs time and not code. Each is built as its source has it:

- pre-act ResNet with depth 9n+2, CIFAR: three stages of n bottlenecks with 64, 128 and 256
  channels (He et al. 2016, "Identity Mappings in Deep Residual Networks"). Other depths, and
  200 with the ImageNet stem: its ImageNet networks.
- ResNet of depth 50, 101, 152: He et al. 2016, "Deep Residual Learning", with the stride in the
  3x3 kernel as in torchvision; with a width k, Zagoruyko and Komodakis' bottleneck WRN-50-k.
- WRN-d-k, d = 6n+4: Zagoruyko and Komodakis 2016, "Wide Residual Networks": three stages of n
  pre-activated blocks of two 3x3 kernels with 16k, 32k and 64k channels.
"""

import dataclasses
import re
from typing import Any, ClassVar, Self

from flax import linen as nn

from mgnet_jax.models.iteration import record, repeat
from mgnet_jax.models.layers import Array, Compute, Head, Stem
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import Spec, SpecError, counts, several
from mgnet_jax.models.reader import Reader
from mgnet_jax.models.resnet import PRE_ACT

IMAGENET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
MISPRINTS = {(28, 2), (40, 2)}  # Table 4 prints the count of WRN-28-10 beside these


@dataclasses.dataclass(frozen=True)
class Shape:
    """A block's kernels: (size, channels) in turn, and which of them has the stride."""

    kernels: tuple[tuple[int, int], ...]
    strided: int
    pre_act: bool
    dropout: float = 0.0


class Block(nn.Module):
    """x (N, H, W, c') to x + F(x) (N, H/stride, W/stride, c).

    Attributes:
      shape: its kernels.
      stride: of the block.
      project: the skip is a 1x1 kernel instead of x itself; pre-activated like F if F is.
    """

    shape: Shape
    train: bool
    compute: Compute
    stride: int = 1
    project: bool = False

    @nn.compact
    def __call__(self, x: Array, _: None = None) -> tuple[Array, None]:
        shape, compute, norm = self.shape, self.compute, self.compute.norm(self.train)
        y = norm("bn0")(x, relu=True) if shape.pre_act else x
        skip = x
        if self.project:
            R = compute.kernel(self, "project", (1, 1, x.shape[-1], shape.kernels[-1][1]))
            skip = compute.conv(y, R, self.stride)
            skip = skip if shape.pre_act else norm("bn_project")(skip)
        last = len(shape.kernels) - 1
        for i, (size, c) in enumerate(shape.kernels):
            if i and shape.pre_act:
                y = norm(f"bn{i}")(y, relu=True)
                y = nn.Dropout(shape.dropout, deterministic=not self.train, name=f"drop{i}")(y)
            kernel = compute.kernel(self, f"kernel{i}", (size, size, y.shape[-1], c))
            y = compute.conv(y, kernel, self.stride if i == shape.strided else 1)
            if i != last or not shape.pre_act:
                y = compute.kept(y)
            if not shape.pre_act:
                y = norm(f"bn{i}")(y, relu=i != last)
        x = skip + y
        x = x if shape.pre_act else nn.relu(x)
        record(self, x=x)
        return x, None


class Stage(nn.Module):
    """`count` blocks, of which the first may halve the grid; the others run in `nn.scan`."""

    shape: Shape
    count: int
    stride: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        project = self.stride > 1 or x.shape[-1] != self.shape.kernels[-1][1]
        first = Block(self.shape, train, self.compute, self.stride, project, name="first")
        x, _ = first(x)
        if self.count > 1:
            blocks = repeat(Block, self.count - 1, self.compute, in_axes=(nn.broadcast,))
            x, _ = blocks(self.shape, train, self.compute.inside, name="step")(x, None)
        return x


class DeepResNet(Network):
    """The deep ResNets; see `Network` for its attributes."""

    @property
    def uses_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return self.spec.dropout > 0

    @property
    def details(self) -> dict[str, str]:
        """What the parts do, for people."""
        words = {"stem": "conv", "bn": "BN, ReLU", "head": "average, linear"}
        for level, (shape, count) in enumerate(self.spec.stages(self.stem)[0], 1):
            kernels = ", ".join(f"{size}x{size}" for size, _ in shape.kernels)
            words[f"level{level}"] = f"{several(count, 'block')} of {kernels}"
        return words

    @nn.compact
    def forward(self, images: Array, train: bool) -> Array:
        """The network itself."""
        spec, compute = self.spec, self.compute
        stages, stem = spec.stages(self.stem)
        x = Stem(self.stem, stem, spec.pre_act, compute, name="stem")(images, train)
        for level, (shape, count) in enumerate(stages, 1):
            stride = 1 if level == 1 else 2
            x = Stage(shape, count, stride, compute, name=f"level{level}")(x, train)
        if spec.pre_act:
            x = compute.norm(train)("bn")(x, relu=True)
        return Head(self.num_classes, compute, name="head")(x)


@dataclasses.dataclass(frozen=True)
class DeepSpec(Spec):
    """A deep ResNet.

    Attributes:
      depth: layers, as the names count them.
      k: widening factor; for bottlenecks that of the 3x3 kernels.
      pre_act: batch norm and ReLU before the kernels instead of after them.
      wide: blocks of two 3x3 kernels (WRN-d-k) instead of bottlenecks.
      dropout: probability in a wide block, between its kernels.

    Raises:
      SpecError: there is no such network.
    """

    begins: ClassVar[re.Pattern[str]] = re.compile(
        rf"({PRE_ACT.pattern})?ResNet\s*\d|Wide\s?ResNet|WRN"
    )
    example: ClassVar[str] = "pre-act ResNet1001 or WRN-28-10"
    network: ClassVar[Any] = DeepResNet

    depth: int
    k: int = 1
    pre_act: bool = False
    wide: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self.set(depth=counts("depth", [self.depth])[0], k=counts("k", [self.k])[0])
        self.set(pre_act=bool(self.pre_act), wide=bool(self.wide), dropout=float(self.dropout))
        if self.wide and not self.pre_act:
            raise SpecError("wide=True needs pre_act=True: blocks of WRN-d-k are pre-activated")
        if self.k > 1 and self.pre_act and not self.wide:
            raise SpecError(f"k={self.k} is for wide networks and for bottlenecks without pre_act")
        if self.dropout and not self.wide:
            raise SpecError(f"dropout={self.dropout} is for wide networks; bottlenecks have none")
        if self.wide:
            if self.depth % 6 != 4 or self.depth < 10:
                raise SpecError(
                    f"a WideResNet has 6n+4 layers (10, 16, 22, 28, 40), or 50, 101, 152 as a "
                    f"bottleneck; here are {self.depth}"
                )
        elif self.pre_act:
            if self.depth not in IMAGENET_BLOCKS and (self.depth % 9 != 2 or self.depth < 11):
                raise SpecError(
                    f"a pre-act ResNet has 18, 34, 50, 101, 152, 200 or 9n+2 layers (164, 1001); "
                    f"here are {self.depth}"
                )
        elif self.depth not in IMAGENET_BLOCKS:
            raise SpecError(f"a ResNet has 18, 34, 50, 101, 152 or 200 layers; here {self.depth}")
        if not 0 <= self.dropout < 1:
            raise SpecError(f"dropout={self.dropout} must be a probability >= 0 and < 1")

    def stages(self, stem: str) -> tuple[list[tuple[Shape, int]], int]:
        """Blocks and their number of each stage, and the channels of the stem."""
        if self.wide:
            n = (self.depth - 4) // 6
            widths = [16 * self.k, 32 * self.k, 64 * self.k]
            shapes = [Shape(((3, c), (3, c)), 0, True, self.dropout) for c in widths]
            return [(shape, n) for shape in shapes], 16
        small = self.pre_act and self.depth % 9 == 2
        if small and (stem != "imagenet" or self.depth not in IMAGENET_BLOCKS):
            blocks, strided, first = [(self.depth - 2) // 9] * 3, 0, 16
        else:
            blocks, strided, first = [*IMAGENET_BLOCKS[self.depth]], 1, 64
        inner = [first * 2**level for level in range(len(blocks))]
        shapes = [
            Shape(((1, c * self.k), (3, c * self.k), (1, 4 * c)), strided, self.pre_act)
            for c in inner
        ]
        return list(zip(shapes, blocks, strict=True)), first

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `pre-act ResNet1001`, `WRN-28-10-dropout0.3`, or Table 4's `WideResNet50 * 2`."""
        if reader.match(re.compile(r"WRN|Wide\s?ResNet")):
            return cls._read_wide(reader)
        pre_act = reader.match(PRE_ACT) is not None
        reader.expect("ResNet", "ResNet")
        reader.skip_space()
        place = reader.place
        depth = reader.number("layers")
        spec = _at(reader, place, lambda: cls(depth, pre_act=pre_act))
        if not reader.at_end():
            reader.fail("the end: A and B are shared in ResNet18, 34 and ResNet[nu]-[channels]")
        return spec

    @classmethod
    def _read_wide(cls, reader: Reader) -> Self:
        reader.accept("-")
        reader.skip_space()
        place = reader.place
        depth = reader.number("layers")
        printed = reader.accept("*", "×")
        if not printed:
            reader.expect("-", "'-' or '*' and the widening factor")
        k = reader.number("channel multiples")
        dropout = 0.0
        if reader.accept("-dropout"):
            reader.accept("=")
            dropout = float(reader.match(re.compile(r"0?\.\d+")) or reader.fail("a probability"))
        if depth in IMAGENET_BLOCKS:
            return _at(reader, place, lambda: cls(depth, k, dropout=dropout))
        if printed and (depth, k) in MISPRINTS:
            spec = _at(reader, place, lambda: cls(28, 10, True, True, dropout))
            spec.set(
                note=f"Table 4 prints WRN-28-10's 36.5M parameters beside WideResNet{depth} * {k}, "
                f"so that name is WRN-28-10 here; WRN-{depth}-{k} is the network that it names"
            )
            return spec
        return _at(reader, place, lambda: cls(depth, k, True, True, dropout))

    @property
    def canonical(self) -> str:
        """`pre-act ResNet1001`, `WRN-28-10`."""
        if self.wide or self.k > 1:
            dropout = f"-dropout{self.dropout:.10f}".rstrip("0") if self.dropout else ""
            return f"WRN-{self.depth}-{self.k}{dropout}"
        return f"{'pre-act ' if self.pre_act else ''}ResNet{self.depth}"


def _at(reader: Reader, place: int, make: Any) -> Any:
    """What `make` gives; its SpecError points at a place of the name."""
    try:
        return make()
    except SpecError as error:
        reader.place = place
        reader.fail(f"another depth: {error}", found=False)
