"""ResNet and pre-act ResNet of two-convolution blocks, A and B shared or not (Tables 2 and 3).

Both are the iteration of `iteration` in the state r, where a block is a step (equations (3.1) to
(3.4), with sharing (4.6), (4.7), (5.4) and (5.5)):

    ResNet            r <- relu(r + BN(A relu(BN(B r))))
    pre-act ResNet    r <- r + A s(B s(r))

A block at a grid's entry halves the grid: its skip is R r instead of r, R a 1x1 kernel with stride
2 (with batch norm in ResNets), and its B^{l,0} has stride 2. With A^l that block's A is the grid's
too. With B^l the text keeps B^{l,0} apart; the counts of Table 3 fit another reading, `@table3`: R
first, then nu blocks that share one B, and the first grid shares nothing. There a pre-act ResNet's
first s comes before R, as its counts have it.
"""

import dataclasses
import re
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.iteration import Scheme, record, recording, smooth
from mgnet_jax.models.layers import Array, Compute, Head, Stem
from mgnet_jax.models.maps import Map
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import (
    Spec,
    SpecError,
    counts,
    list_text,
    narrow,
    same_length,
    several,
    sharing_text,
)
from mgnet_jax.models.reader import Reader

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
CHANNELS = (64, 128, 256, 512)
READINGS = ("text", "table3")

PRE_ACT = re.compile(r"pre[- ]?act[- ]?\s*(?=ResNet)")


class Grid(nn.Module):
    """The blocks of one grid: r (N, H, W, c') to r (N, H', W', c).

    Attributes:
      scheme: what a block is.
      nu: blocks, the one that halves the grid included.
      c: channels.
      halves: the first block halves the grid, from c' to c channels.
      project_first: R comes first, and then nu blocks from c to c channels.
    """

    scheme: Scheme
    nu: int
    c: int
    halves: bool
    project_first: bool
    compute: Compute

    @nn.compact
    def __call__(self, r: Array, train: bool) -> Array:
        scheme, compute, nu, c = self.scheme, self.compute, self.nu, self.c
        separate_B = self.halves and not self.project_first  # B^{l,0}, which is none of the B^{l,i}
        A = compute.kernel(self, "A", (3, 3, c, c), None if scheme.share_A else nu)
        B = None
        if nu > separate_B:
            count = None if scheme.share_B else nu - separate_B
            B = compute.kernel(self, "B", (3, 3, c, c), count)
        if self.halves:
            enter = Enter(scheme, c, self.project_first, compute, name="enter")
            r, blocks = enter(r, A if scheme.share_A else A[0], B, train)
            nu -= blocks
            A = A if scheme.share_A else A[blocks:]
        # the u that the residuals imply, from 0 on entry; nobody but `features` reads it
        implied = recording(self) and scheme.share_A and not scheme.rectified
        u = jnp.zeros_like(r) if implied else None
        u, r = smooth(scheme, nu, u, r, A, B, train, compute)
        record(self, r=r, u=u)
        return r


class Enter(nn.Module):
    """How a grid hands over to the next: r of the finer grid to r, and the blocks that this was.

    With `project_first` a pre-act ResNet's first block is r' = R s(r), r <- r' + A s(B r').
    """

    scheme: Scheme
    c: int
    project_first: bool
    compute: Compute

    @nn.compact
    def __call__(self, r: Array, A: Array, B: Array | None, train: bool) -> tuple[Array, int]:
        scheme, compute, norm = self.scheme, self.compute, self.compute.norm(train)
        R = compute.kernel(self, "R", (1, 1, r.shape[-1], self.c))
        pre_act = scheme.B.form.endswith("s")
        if not self.project_first:
            B_0 = compute.kernel(self, "B", (3, 3, r.shape[-1], self.c))
            assert isinstance(scheme.B, Map)
            d = scheme.B(r, B_0, compute, norm, "r B", stride=2)
            skip = Map("K", scheme.A.norm)(r, R, compute, norm, "r R", stride=2)
            return scheme.update(skip, scheme.A(d, A, compute, norm, "d A")), 1
        if not pre_act:
            return Map("sK")(r, R, compute, norm, "r R", stride=2), 0
        skip = Map("Ks")(r, R, compute, norm, "r R", stride=2)
        assert B is not None
        d = Map("sK")(skip, B, compute, norm, "r B")
        return scheme.update(skip, scheme.A(d, A, compute, norm, "d A")), 1


class ResNet(Network):
    """ResNet or pre-act ResNet of blocks with two 3x3 kernels; see `Network` for its attributes.

    A pre-act ResNet has no batch norm and ReLU before the pooling of its head, and none after the
    CIFAR stem, as Tables 2 and 3 count.
    """

    why_not: ClassVar[str] = "its state is r"

    @nn.compact
    def forward(self, images: Array, train: bool) -> Array:
        """The network itself."""
        spec, compute = self.spec, self.compute
        stem = Stem(self.stem, spec.channels[0], spec.pre_act, compute, name="stem")
        r = stem(images, train)
        project_first = spec.reading == "table3"
        for level, (nu, c) in enumerate(zip(spec.nu, spec.channels, strict=True), 1):
            scheme = spec.scheme
            if level == 1 and project_first:
                scheme = dataclasses.replace(scheme, share_A=False, share_B=False)
            grid = Grid(scheme, nu, c, level > 1, project_first, compute, name=f"level{level}")
            r = grid(r, train)
        return Head(self.num_classes, compute, name="head")(r)


@dataclasses.dataclass(frozen=True)
class ResNetSpec(Spec):
    """ResNet and pre-act ResNet of two-convolution blocks.

    Attributes:
      nu: blocks of each grid, finest first; each at least 1.
      channels: of each grid.
      pre_act: batch norm and ReLU before the kernels instead of after them.
      share_A, share_B: one kernel a grid (`A^l`), or one a block (`A^{l,i}`).
      reading: of the rows that share B: "text" or "table3".

    Raises:
      SpecError: nu and channels differ in length, or hold anything but whole numbers >= 1; or
        there is no such reading.
    """

    begins: ClassVar[re.Pattern[str]] = re.compile(
        rf"({PRE_ACT.pattern})?ResNet\s*(18(?!\d)|34(?!\d)|\[)"
    )
    example: ClassVar[str] = "pre-act ResNet18-A^l-B^{l,i}"
    network: ClassVar[Any] = ResNet

    nu: tuple[int, ...]
    channels: tuple[int, ...]
    pre_act: bool = False
    share_A: bool = False
    share_B: bool = False
    reading: str = "text"

    def __post_init__(self) -> None:
        self.set(nu=counts("nu", self.nu), channels=counts("channels", self.channels))
        for name in ("pre_act", "share_A", "share_B"):
            self.set(**{name: bool(getattr(self, name))})
        same_length(self.nu, self.channels)
        if self.reading not in READINGS:
            raise SpecError(f"reading={self.reading!r} is not one of {', '.join(READINGS)}")
        if self.reading == "table3" and not self.share_B:
            raise SpecError("reading='table3' is one of networks that share B: share_B=True")

    @property
    def scheme(self) -> Scheme:
        """A = K, B = s K s; or A = K with batch norm, B = s K, and ReLU on the sum."""
        A, B = (Map("K"), Map("sKs")) if self.pre_act else (Map("K", norm=True), Map("sK"))
        return Scheme(A, B, self.share_A, self.share_B, sign=1, rectified=not self.pre_act)

    def narrowed(self, divisor: int) -> Self:
        """The same blocks with fewer channels."""
        return dataclasses.replace(self, channels=tuple(narrow(c, divisor) for c in self.channels))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `pre-act ResNet18-A^l-B^{l,i}`, or `ResNet[2,2]-[8]-A^l-B^l@table3`."""
        pre_act = reader.match(PRE_ACT) is not None
        reader.expect("ResNet", "ResNet")
        reader.skip_space()
        if reader.text.startswith("[", reader.place):
            nu, channels = reader.grids("'[' and the blocks of each grid", pairs=False)
        else:
            nu, channels = DEPTHS[reader.number("layers")], CHANNELS
        share_A = share_B = False
        if not reader.at_end():
            reader.expect("-", "'-' and A^l or A^{l,i}")
            share_A = reader.sharing("A")
            reader.expect("-", "'-' and B^l or B^{l,i}")
            share_B = reader.sharing("B")
        place = reader.place
        reading = "table3" if reader.accept("@table3") else "text"
        if reading == "table3" and not share_B:
            reader.place = place
            reader.fail("the end: @table3 is a reading of networks with B^l", found=False)
        return cls(nu, channels, pre_act, share_A, share_B, reading)

    @property
    def canonical(self) -> str:
        """`pre-act ResNet18-A^l-B^{l,i}`."""
        depth = next((d for d, nu in DEPTHS.items() if nu == self.nu), None)
        body = f"[{','.join(map(str, self.nu))}]-[{list_text(self.channels)}]"
        if depth and self.channels == CHANNELS:
            body = str(depth)
        sharing = f"{sharing_text('A', self.share_A)}-{sharing_text('B', self.share_B)}"
        reading = "@table3" if self.reading == "table3" else ""
        return f"{'pre-act ' if self.pre_act else ''}ResNet{body}-{sharing}{reading}"

    @property
    def details(self) -> dict[str, str]:
        """What the parts of the network do, for people."""
        plain = self.pre_act
        words = {"stem": "conv" if plain else "conv, BN, ReLU", "head": "average, linear"}
        A, B = ("shared" if s else "per block" for s in (self.share_A, self.share_B))
        for level, nu in enumerate(self.nu, 1):
            if level == 1 and self.reading == "table3":
                words["level1"] = f"{several(nu, 'block')}, A per block, B per block"
            else:
                words[f"level{level}"] = f"{several(nu, 'block')}, A {A}, B {B}"
        return words
