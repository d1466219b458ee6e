"""The networks written from torch.nn, as the papers and the modules' docstrings define them.

Modules have the names of Flax's parameter tree (`compare.by_name`), and nothing else of mgnet_jax.
NCHW throughout.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu


def kernel(
    c_in: int,
    c_out: int,
    size: int = 3,
    stride: int = 1,
    padding: int | None = None,
    bias: bool = False,
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution, without bias and padded by size // 2 unless asked otherwise."""
    padding = size // 2 if padding is None else padding
    return nn.Conv2d(c_in, c_out, size, stride, padding, bias=bias, groups=groups)


def one_or_many(make: Callable[[], nn.Module], count: int, shared: bool) -> nn.Module:
    """One kernel for all steps, or a list of one a step."""
    return make() if shared else nn.ModuleList(make() for _ in range(count))


def at(kernels: nn.Module, i: int) -> nn.Module:
    """The kernel of step i."""
    return kernels[i] if isinstance(kernels, nn.ModuleList) else kernels


def norms(**channels: int) -> nn.ModuleDict:
    """Batch norms by name."""
    return nn.ModuleDict({name: nn.BatchNorm2d(c) for name, c in channels.items()})


class ConvBN(nn.Module):
    """ReLU(BN(conv)) of x (N, c_in, H, W)."""

    def __init__(self, c_in: int, c_out: int, size: int = 3, stride: int = 1, bias: bool = False):
        super().__init__()
        self.kernel = kernel(c_in, c_out, size, stride, bias=bias)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.bn(self.kernel(x)))


class Stem(nn.Module):
    """CIFAR's 3x3 or ImageNet's 7x7/2 and max-pool 3x3/2, of RGB; `plain` is CIFAR's alone."""

    def __init__(self, kind: str, c: int, plain: bool = False):
        super().__init__()
        if kind == "imagenet":
            self.conv: nn.Module = ConvBN(3, c, 7, 2)
            self.pool: nn.Module = nn.MaxPool2d(3, 2, 1)
        else:
            self.conv = kernel(3, c) if plain else ConvBN(3, c)
            self.pool = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(images))


class Head(nn.Module):
    """Global average and a linear layer."""

    def __init__(self, c: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(c, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean((2, 3)))


class Levels(nn.Module):
    """A stem, modules level1, level2, ... and a head."""

    def __init__(self, stem: Stem, levels: list[nn.Module], head: nn.Module):
        super().__init__()
        self.stem = stem
        for l, level in enumerate(levels, 1):
            self.add_module(f"level{l}", level)
        self.head = head
        self.depth = len(levels)

    def level(self, l: int) -> Any:
        """The module of grid l."""
        return getattr(self, f"level{l}")

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the last grid gives."""
        x = self.stem(images)
        for l in range(1, self.depth + 1):
            x = self.level(l)(x)
        return x

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


# MgNet and the data-feature iteration


class MgNetGrid(nn.Module):
    """A, B and the batch norms of one grid: u <- u + s(B s(f - A u)), nu times."""

    def __init__(self, nu: int, c_u: int, c_f: int, share_B: bool):
        super().__init__()
        self.nu = nu
        self.A = kernel(c_u, c_f)
        self.B = one_or_many(lambda: kernel(c_f, c_u), nu, share_B)
        self.step = nn.ModuleList(norms(bn_r=c_f, bn_B=c_u) for _ in range(nu))

    def forward(self, u: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        for i, bn in enumerate(self.step):
            r = relu(bn["bn_r"](f - self.A(u)))
            u = u + relu(bn["bn_B"](at(self.B, i)(r)))
        return u


class MgNet(Levels):
    """Algorithm 2 of the paper, in u and f."""

    def __init__(
        self,
        nu: tuple[int, ...],
        channels: tuple[tuple[int, int], ...],
        share_B: bool,
        stem: str,
        classes: int,
    ):
        grids = [MgNetGrid(n, *c, share_B) for n, c in zip(nu, channels, strict=True)]
        head = Head(channels[-1][0], classes)
        super().__init__(Stem(stem, channels[0][1]), grids, head)
        self.c_u = channels[0][0]
        for l, (fine, coarse) in enumerate(itertools.pairwise(channels), 1):
            transfer = {i: ConvBN(fine[k], coarse[k], 3, 2) for k, i in enumerate(("Pi", "R"))}
            self.add_module(f"restrict{l}", nn.ModuleDict(transfer))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        f = self.stem(images)
        u = f.new_zeros(f.shape[0], self.c_u, *f.shape[2:])
        for l in range(1, self.depth + 1):
            if l > 1:
                transfer = getattr(self, f"restrict{l - 1}")
                r = transfer["R"](f - self.level(l - 1).A(u))
                u = transfer["Pi"](u)
                f = r + self.level(l).A(u)
            u = self.level(l)(u, f)
        return self.head(u)


class DataFeatureGrid(nn.Module):
    """u <- u + B(f - A(u)) with A and B each K, K s, s K or s K s; batch norm after each B.

    Every application of A has batch norms of its own; `outside` names those outside the steps.
    """

    def __init__(
        self, A: str, B: str, nu: int, c_u: int, c_f: int, share_B: bool, outside: list[str]
    ):
        super().__init__()
        self.A_before, self.A_after = A.endswith("s"), A.startswith("s")
        self.B_before, self.B_after = B.endswith("s"), B.startswith("s")
        self.A = kernel(c_u, c_f)
        self.B = one_or_many(lambda: kernel(c_f, c_u), nu, share_B)

        def of_A(place: str) -> dict[str, int]:
            before = {f"bn_{place}u": c_u} if self.A_before else {}
            return before | ({f"bn_{place}A": c_f} if self.A_after else {})

        of_B = ({"bn_r": c_f} if self.B_before else {}) | {"bn_B": c_u}
        self.step = nn.ModuleList(norms(**of_A(""), **of_B) for _ in range(nu))
        for place in outside:
            for name, bn in norms(**of_A(f"{place}_")).items():
                self.add_module(name, bn)

    def apply_A(self, u: torch.Tensor, bn: Callable[[str], Any], place: str = "") -> torch.Tensor:
        """A(u), with the batch norms that `bn` finds."""
        if self.A_before:
            u = relu(bn(f"bn_{place}u")(u))
        u = self.A(u)
        return relu(bn(f"bn_{place}A")(u)) if self.A_after else u

    def enter(self, u: torch.Tensor) -> torch.Tensor:
        """A(u) of the data on entry."""
        return self.apply_A(u, lambda name: getattr(self, name), "enter_")

    def leave(self, u: torch.Tensor) -> torch.Tensor:
        """A(u) of the residual that goes to the next grid."""
        return self.apply_A(u, lambda name: getattr(self, name), "leave_")

    def forward(self, u: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        for i, bn in enumerate(self.step):
            d = f - self.apply_A(u, bn.__getitem__)
            if self.B_before:
                d = relu(bn["bn_r"](d))
            d = bn["bn_B"](at(self.B, i)(d))
            u = u + (relu(d) if self.B_after else d)
        return u


class DataFeature(MgNet):
    """Algorithm 3 of the paper, with f' = s(R (f - A(u))) + A'(u') between grids."""

    def __init__(
        self, A: str, B: str, nu: Any, channels: Any, share_B: bool, stem: str, classes: int
    ):
        super().__init__(nu, channels, share_B, stem, classes)
        last = len(nu)
        for l, (n, c) in enumerate(zip(nu, channels, strict=True), 1):
            outside = ["enter"] * (l > 1) + ["leave"] * (l < last)
            self.add_module(f"level{l}", DataFeatureGrid(A, B, n, *c, share_B, outside))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        f = self.stem(images)
        u = self.level(1)(f.new_zeros(f.shape[0], self.c_u, *f.shape[2:]), f)
        for l in range(2, self.depth + 1):
            transfer = getattr(self, f"restrict{l - 1}")
            r = transfer["R"](f - self.level(l - 1).leave(u))
            u = transfer["Pi"](u)
            f = r + self.level(l).enter(u)
            u = self.level(l)(u, f)
        return self.head(u)


# ResNet and pre-act ResNet, A and B shared or not


class ResNetGrid(nn.Module):
    """Blocks r <- relu(r + BN(A relu(BN(B r)))); the first one, (3.2), may halve the grid."""

    def __init__(self, nu: int, c_in: int, c: int, share_A: bool, share_B: bool, halves: bool):
        super().__init__()
        self.halves = halves
        self.A = one_or_many(lambda: kernel(c, c), nu, share_A)
        if nu > halves:
            self.B = one_or_many(lambda: kernel(c, c), nu - halves, share_B)
        if halves:
            own = {"R": kernel(c_in, c, 1, 2), "B": kernel(c_in, c, 3, 2)}
            self.enter = nn.ModuleDict(own | dict(norms(bn_R=c, bn_B=c, bn_A=c).items()))
        self.step = nn.ModuleList(norms(bn_B=c, bn_A=c) for _ in range(nu - halves))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        if self.halves:
            own = self.enter
            d = relu(own["bn_B"](own["B"](r)))
            r = relu(own["bn_R"](own["R"](r)) + own["bn_A"](at(self.A, 0)(d)))
        for i, bn in enumerate(self.step):
            d = relu(bn["bn_B"](at(self.B, i)(r)))
            r = relu(r + bn["bn_A"](at(self.A, i + self.halves)(d)))
        return r


class ResNetGridTable3(nn.Module):
    """Reading `@table3`, (5.4): r <- relu(BN(R r)), then nu blocks."""

    def __init__(self, nu: int, c_in: int, c: int, share_A: bool, share_B: bool):
        super().__init__()
        self.A = one_or_many(lambda: kernel(c, c), nu, share_A)
        self.B = one_or_many(lambda: kernel(c, c), nu, share_B)
        self.enter = nn.ModuleDict({"R": kernel(c_in, c, 1, 2), "bn_R": nn.BatchNorm2d(c)})
        self.step = nn.ModuleList(norms(bn_B=c, bn_A=c) for _ in range(nu))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        r = relu(self.enter["bn_R"](self.enter["R"](r)))
        for i, bn in enumerate(self.step):
            d = relu(bn["bn_B"](at(self.B, i)(r)))
            r = relu(r + bn["bn_A"](at(self.A, i)(d)))
        return r


class PreActGrid(nn.Module):
    """Blocks r <- r + A s(B s(r)); the first one, (3.4), may halve the grid: R r + A s(B s(r))."""

    def __init__(self, nu: int, c_in: int, c: int, share_A: bool, share_B: bool, halves: bool):
        super().__init__()
        self.halves = halves
        self.A = one_or_many(lambda: kernel(c, c), nu, share_A)
        if nu > halves:
            self.B = one_or_many(lambda: kernel(c, c), nu - halves, share_B)
        if halves:
            own = {"R": kernel(c_in, c, 1, 2), "B": kernel(c_in, c, 3, 2)}
            self.enter = nn.ModuleDict(own | dict(norms(bn_r=c_in, bn_B=c).items()))
        self.step = nn.ModuleList(norms(bn_r=c, bn_B=c) for _ in range(nu - halves))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        if self.halves:
            own = self.enter
            d = relu(own["bn_B"](own["B"](relu(own["bn_r"](r)))))
            r = own["R"](r) + at(self.A, 0)(d)
        for i, bn in enumerate(self.step):
            d = relu(bn["bn_B"](at(self.B, i)(relu(bn["bn_r"](r)))))
            r = r + at(self.A, i + self.halves)(d)
        return r


class PreActGridTable3(nn.Module):
    """Reading `@table3`, (5.5): r <- R s(r), then nu blocks; the first one goes on from R's result.

    That block has no batch norm and ReLU before its B: r + A s(B r).
    """

    def __init__(self, nu: int, c_in: int, c: int, share_A: bool, share_B: bool):
        super().__init__()
        self.A = one_or_many(lambda: kernel(c, c), nu, share_A)
        self.B = one_or_many(lambda: kernel(c, c), nu, share_B)
        own = {"R": kernel(c_in, c, 1, 2)}
        self.enter = nn.ModuleDict(own | dict(norms(bn_r=c_in, bn_B=c).items()))
        self.step = nn.ModuleList(norms(bn_r=c, bn_B=c) for _ in range(nu - 1))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        r = self.enter["R"](relu(self.enter["bn_r"](r)))
        r = r + at(self.A, 0)(relu(self.enter["bn_B"](at(self.B, 0)(r))))
        for i, bn in enumerate(self.step):
            d = relu(bn["bn_B"](at(self.B, i + 1)(relu(bn["bn_r"](r)))))
            r = r + at(self.A, i + 1)(d)
        return r


def resnet(
    nu: tuple[int, ...],
    channels: tuple[int, ...],
    share_A: bool,
    share_B: bool,
    stem: str,
    classes: int,
    *,
    pre_act: bool,
    table3: bool,
) -> Levels:
    """ResNet or pre-act ResNet; with `table3` the first grid shares nothing, and R comes first."""
    first, coarse = (PreActGrid, PreActGridTable3) if pre_act else (ResNetGrid, ResNetGridTable3)
    sharing = (False, False) if table3 else (share_A, share_B)
    levels = [first(nu[0], channels[0], channels[0], *sharing, False)]
    for n, c_in, c in zip(nu[1:], channels, channels[1:], strict=False):
        if table3:
            levels.append(coarse(n, c_in, c, share_A, share_B))
        else:
            levels.append(first(n, c_in, c, share_A, share_B, True))
    return Levels(Stem(stem, channels[0], plain=pre_act), levels, Head(channels[-1], classes))


# the deep ResNets


class Bottleneck(nn.Module):
    """Pre-activated bottleneck (He et al. 2016): 1x1, 3x3, 1x1; the projection takes s(x)."""

    def __init__(self, c_in: int, c: int, stride: int, strided: int):
        super().__init__()
        strides = [stride if i == strided else 1 for i in range(3)]
        self.bn0, self.kernel0 = nn.BatchNorm2d(c_in), kernel(c_in, c, 1, strides[0])
        self.bn1, self.kernel1 = nn.BatchNorm2d(c), kernel(c, c, 3, strides[1])
        self.bn2, self.kernel2 = nn.BatchNorm2d(c), kernel(c, 4 * c, 1, strides[2])
        if stride > 1 or c_in != 4 * c:
            self.project = kernel(c_in, 4 * c, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu(self.bn0(x))
        skip = self.project(y) if hasattr(self, "project") else x
        y = self.kernel0(y)
        y = self.kernel1(relu(self.bn1(y)))
        return skip + self.kernel2(relu(self.bn2(y)))


class WideBlock(nn.Module):
    """Pre-activated block of two 3x3 kernels with dropout between (Zagoruyko, Komodakis 2016)."""

    def __init__(self, c_in: int, c: int, stride: int, dropout: float):
        super().__init__()
        self.bn0, self.kernel0 = nn.BatchNorm2d(c_in), kernel(c_in, c, 3, stride)
        self.bn1, self.kernel1 = nn.BatchNorm2d(c), kernel(c, c)
        self.dropout = nn.Dropout(dropout)
        if stride > 1 or c_in != c:
            self.project = kernel(c_in, c, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu(self.bn0(x))
        skip = self.project(y) if hasattr(self, "project") else x
        return skip + self.kernel1(self.dropout(relu(self.bn1(self.kernel0(y)))))


class Stage(nn.Module):
    """Blocks in a row; `make` makes one from its channels in and its stride."""

    def __init__(
        self, make: Callable[[int, int], nn.Module], count: int, c_in: int, c: int, stride: int
    ):
        super().__init__()
        self.first = make(c_in, stride)
        self.step = nn.ModuleList(make(c, 1) for _ in range(count - 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.step:
            x = block(x)
        return x


class LastNorm(Levels):
    """Batch norm and ReLU before the head, as pre-activated blocks need."""

    def __init__(self, stem: Stem, levels: list[nn.Module], head: Head):
        super().__init__(stem, levels, head)
        self.bn = nn.BatchNorm2d(head.linear.in_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(relu(self.bn(self.features(images))))


def pre_act_bottlenecks(
    counts: tuple[int, ...],
    inner: tuple[int, ...],
    first: int,
    strided: int,
    stem: str,
    classes: int,
) -> LastNorm:
    """Pre-act ResNet of bottlenecks; `strided` says which kernel of a block has the stride."""
    levels, c_in = [], first
    for l, (count, c) in enumerate(zip(counts, inner, strict=True)):

        def make(c_in: int, stride: int, c: int = c) -> nn.Module:
            return Bottleneck(c_in, c, stride, strided)

        levels.append(Stage(make, count, c_in, 4 * c, 2 if l else 1))
        c_in = 4 * c
    return LastNorm(Stem(stem, first, plain=True), levels, Head(c_in, classes))


def wide_resnet(depth: int, k: int, dropout: float, stem: str, classes: int) -> LastNorm:
    """WRN-depth-k: three stages of (depth - 4) / 6 blocks with 16k, 32k and 64k channels."""
    levels, c_in = [], 16
    for l, c in enumerate((16 * k, 32 * k, 64 * k)):

        def make(c_in: int, stride: int, c: int = c) -> nn.Module:
            return WideBlock(c_in, c, stride, dropout)

        levels.append(Stage(make, (depth - 4) // 6, c_in, c, 2 if l else 1))
        c_in = c
    return LastNorm(Stem(stem, 16, plain=True), levels, Head(c_in, classes))


# AlexNet and VGG19


class CifarAlexNet(nn.Module):
    """W. Yang's AlexNet for CIFAR, with the mean over what is left of the grid."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv1 = kernel(3, 64, 11, 4, padding=5, bias=True)
        self.conv2 = kernel(64, 192, 5, bias=True)
        self.conv3 = kernel(192, 384, bias=True)
        self.conv4 = kernel(384, 256, bias=True)
        self.conv5 = kernel(256, 256, bias=True)
        self.pool = nn.MaxPool2d(2, 2)
        self.head = Head(256, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pool(relu(self.conv1(images)))
        x = self.pool(relu(self.conv2(x)))
        x = relu(self.conv4(relu(self.conv3(x))))
        return self.head(self.pool(relu(self.conv5(x))))


class AlexNet2012(nn.Module):
    """AlexNet as of 2012: two towers as groups, response normalisation, overlapping pools."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv1 = kernel(3, 96, 11, 4, padding=2, bias=True)
        self.conv2 = kernel(96, 256, 5, groups=2, bias=True)
        self.conv3 = kernel(256, 384, bias=True)
        self.conv4 = kernel(384, 384, groups=2, bias=True)
        self.conv5 = kernel(384, 256, groups=2, bias=True)
        # torch divides alpha by the size: x / (2 + 1e-4 S)^0.75 with the sum S over 5 channels
        self.normalise = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2)
        self.head = nn.ModuleDict(
            {
                "hidden1": nn.Linear(6 * 6 * 256, 4096),
                "hidden2": nn.Linear(4096, 4096),
                "linear": nn.Linear(4096, classes),
            }
        )
        self.average, self.dropout = nn.AdaptiveAvgPool2d(6), nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.normalise(relu(self.conv1(images))))
        x = self.pool(self.normalise(relu(self.conv2(x))))
        x = relu(self.conv4(relu(self.conv3(x))))
        x = self.average(self.pool(relu(self.conv5(x)))).flatten(1)
        x = self.dropout(relu(self.head["hidden1"](x)))
        x = self.dropout(relu(self.head["hidden2"](x)))
        return self.head["linear"](x)


class VGG19BN(nn.Module):
    """VGG19 with batch norm and one linear layer, W. Yang's for CIFAR."""

    def __init__(self, classes: int):
        super().__init__()
        c_in = 3
        self.order: list[str] = []
        stages = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
        for stage, (count, c) in enumerate(stages, 1):
            for i in range(1, count + 1):
                self.add_module(f"conv{stage}_{i}", ConvBN(c_in, c, bias=True))
                self.order.append(f"conv{stage}_{i}")
                c_in = c
            self.order.append("pool")
        self.pool = nn.MaxPool2d(2, 2)
        self.head = Head(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for name in self.order:
            x = getattr(self, name)(x)
        return self.head(x)
