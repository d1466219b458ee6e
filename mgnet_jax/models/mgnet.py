"""MgNet (He and Xu 2019): Algorithm 2 of the paper, on the iteration of `iteration`."""

import dataclasses
import re
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.iteration import Level, Scheme
from mgnet_jax.models.layers import Array, Head, Stem
from mgnet_jax.models.maps import Map, Polynomial
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import (
    Channels,
    Spec,
    SpecError,
    counts,
    list_text,
    narrow,
    pairs,
    same_length,
    several,
    sharing_text,
)
from mgnet_jax.models.reader import Reader
from mgnet_jax.models.relaxation import PLAIN, Relaxation
from mgnet_jax.models.transfer import Prolong, Restrict


class MgNet(Network):
    """MgNet, and the general data-feature iteration: grids of smoothing steps, and Pi and R.

    See `Network` for its attributes; spec has nu, channels and the scheme of a step.
    """

    @property
    def forms(self) -> tuple[str, ...]:
        """A nonlinear A has no dual form: there is no r of which the update is A d."""
        return ("dual", "direct") if self.spec.scheme.A.linear else ("direct",)

    @property
    def goes_back(self) -> bool:
        """Whether there is a way up, as in a V-cycle."""
        return bool(getattr(self.spec, "cycle", ""))

    @property
    def outputs(self) -> tuple[str, ...]:
        """After a V-cycle u is on the finest grid."""
        return ("classes", "pixels") if self.goes_back else ("classes",)

    why_not: ClassVar[str] = "its A is not linear, and the dual form r <- r - A d needs it to be"

    @nn.compact
    def forward(self, images: Array, train: bool) -> Array:
        """The network itself: Algorithm 2, and 3 for other A and B."""
        spec, compute = self.spec, self.compute
        scheme = dataclasses.replace(spec.scheme, form=self.computed_form)
        c_u, c_f = spec.channels[0]
        r = Stem(self.stem, c_f, compute=compute, name="stem")(images, train)
        u = jnp.zeros((*r.shape[:-1], c_u), r.dtype)
        back, passed = self.goes_back, list[tuple[Level, Array, Any]]()
        for number, (nu, (c_u, c_f)) in enumerate(zip(spec.nu, spec.channels, strict=True), 1):
            if passed:
                restrict = Restrict(c_u, c_f, back, compute, name=f"restrict{number - 1}")
                u, r = restrict(u, r, train)
            first, last = back or number == 1, number == len(spec.nu)
            level = Level(scheme, nu, c_u, c_f, first, last, compute, name=f"level{number}")
            u, r = level(u, r, train)
            passed.append((level, u, r))
        for number in reversed(range(1, len(passed) if back else 1)):
            level, fine, r = passed[number - 1]
            correction = Prolong(compute, name=f"prolong{number}")(u, fine, train)
            u, _ = level(fine, r, train, correction)
        return Head(self.num_classes, compute, self.output == "pixels", name="head")(u)


@dataclasses.dataclass(frozen=True)
class Grids(Spec):
    """nu and channels of each grid, and the sharing of B.

    Attributes:
      nu: smoothing steps of each grid, finest first; each at least 1.
      channels: (c_u, c_f) of each grid: the channels of the features u and of the data f.
      share_B: True for `B^l` (one extractor a grid), False for `B^{l,i}` (one a step).

    Raises:
      SpecError: nu and channels differ in length, or hold anything but whole numbers >= 1.
    """

    nu: tuple[int, ...]
    channels: tuple[Channels, ...]
    share_B: bool = True

    network: ClassVar[Any] = MgNet

    def __post_init__(self) -> None:
        self.set(nu=counts("nu", self.nu), channels=pairs(self.channels))
        self.set(share_B=bool(self.share_B))
        same_length(self.nu, self.channels)

    def narrowed(self, divisor: int) -> Self:
        """The same steps with fewer channels."""
        pairs = tuple((narrow(u, divisor), narrow(f, divisor)) for u, f in self.channels)
        return dataclasses.replace(self, channels=pairs)

    @property
    def details(self) -> dict[str, str]:
        """What the parts of the network do, for people."""
        B = "shared" if self.share_B else "per step"
        words = {"stem": "conv, BN, ReLU", "head": "average, linear"}
        for level, nu in enumerate(self.nu, 1):
            words[f"level{level}"] = f"{several(nu, 'step')}, A shared, B {B}"
            words[f"restrict{level}"] = "Pi and R, 3x3/2"
        return words

    @property
    def grids(self) -> str:
        """`[nu,...]-[channels,...]-B^l` as the notation has it."""
        nu = ",".join(map(str, self.nu))
        return f"[{nu}]-[{list_text(self.channels)}]-{sharing_text('B', self.share_B)}"


@dataclasses.dataclass(frozen=True)
class MgNetSpec(Grids):
    """MgNet: grid l smooths A^l u = f with nu_l steps u <- u + s(B s(f - A u)).

    Attributes:
      nu, channels, share_B: see `Grids`.
      degree: B is a polynomial in A of this degree (`-poly(3)`), see `iteration.Polynomial`; None:
        a kernel.
      cycle: "V" (`MgNet-V`): the grids are also gone back, from coarse to fine, each with a
        correction from the coarser one and nu_l steps more; "": only down, as the paper's.
      relaxation: classical accelerations (`-damped(0.8)`, `-two-step`), see `relaxation`.

    Raises:
      SpecError: also for a polynomial on grids where c_u and c_f differ.
    """

    begins: ClassVar[re.Pattern[str]] = re.compile("MgNet")
    example: ClassVar[str] = "MgNet[2,2,2,2]-[256]-B^l"

    degree: int | None = None
    relaxation: Relaxation = PLAIN
    cycle: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycle not in ("", "V"):
            raise SpecError(f"cycle={self.cycle!r} is not one of '', 'V'")
        if self.degree is None:
            return
        self.set(degree=counts("degree", (self.degree,))[0], share_B=True)
        for c_u, c_f in self.channels:
            if c_u != c_f:
                raise SpecError(
                    f"a polynomial in A needs as many channels of u as of f on each grid; here "
                    f"are {c_u} and {c_f}"
                )

    @property
    def published(self) -> bool:
        """Whether it is one of the paper's: only down, with a kernel B and plain steps."""
        return self.degree is None and self.relaxation.plain and not self.cycle

    @property
    def scheme(self) -> Scheme:
        """A = K, B = s K s, or s p(A) s."""
        B = Map("sKs", norm=True) if self.degree is None else Polynomial(self.degree)
        return Scheme(Map("K"), B, share_B=self.share_B, relaxation=self.relaxation)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `MgNet[2,2,2,2]-[256]-B^l`; `-poly(3)` may stand for B, and `-damped` follow."""
        reader.expect("MgNet", "MgNet")
        cycle = "V" if reader.accept("-V") else ""
        nu, channels = reader.grids(
            "'[' and the smoothing steps of each grid, as in MgNet[2,2,2,2]", pairs=True
        )
        reader.expect("-", "'-' and B^l or B^{l,i}")
        share_B, degree = True, None
        if reader.accept("poly"):
            reader.expect("(", "'(' and the degree of the polynomial")
            degree = reader.number("degree")
            reader.expect(")", "')'")
        else:
            share_B = reader.sharing("B")
        relaxation = Relaxation.read(reader) if reader.accept("-") else PLAIN
        return cls(nu, channels, share_B, degree, relaxation, cycle=cycle)

    @property
    def canonical(self) -> str:
        """`MgNet[2,2,2,2]-[256]-B^l`."""
        grids = self.grids
        if self.degree is not None:
            grids = f"{grids.removesuffix('B^l')}poly({self.degree})"
        name = f"MgNet-{self.cycle}" if self.cycle else "MgNet"
        return f"{name}{grids}" + ("" if self.relaxation.plain else f"-{self.relaxation}")

    @property
    def details(self) -> dict[str, str]:
        """What the parts of the network do, for people."""
        words = super().details
        if self.cycle:
            for level in range(1, len(self.nu)):
                words[f"restrict{level}"] = "R, 3x3/2"
                words[f"prolong{level}"] = "Pi^T, 3x3/2"
                words[f"level{level}"] += ", and up again"
        for name, text in words.items():
            if name.startswith("level"):
                if self.degree is not None:
                    text = text.replace("B shared", f"B a polynomial in A of degree {self.degree}")
                if not self.relaxation.plain:
                    text += f", {self.relaxation}"
                words[name] = text
        return words
