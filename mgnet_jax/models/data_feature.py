"""The general data-feature iteration: Algorithm 3 of the paper, Table 1's sixteen A and B.

    u <- u + B(f - A(u))        nu times
    u' = s(Pi u),   f' = s(R (f - A(u))) + A'(u')        to the next grid

with A and B each one of K, K s, s K and s K s (right to left; s is batch norm and ReLU). Equation
(4.12) as printed adds data of two grids; it is read as (3.7). What the paper does not print is read
so: nu and channels default to [2,2,2,2]-[64,128,256,512], as in Table 3 beside it; batch norm comes
before each ReLU and after each B, also where no ReLU follows; each application of A has batch norms
of its own, those of the hand-over too. With A = K and B = s K s it is MgNet.
"""

import dataclasses
import re
from typing import ClassVar, Self

from mgnet_jax.models.iteration import Scheme
from mgnet_jax.models.maps import FORMS, Map
from mgnet_jax.models.mgnet import Grids
from mgnet_jax.models.notation import Channels, SpecError
from mgnet_jax.models.reader import Reader

NU = (2, 2, 2, 2)
CHANNELS = ((64, 64), (128, 128), (256, 256), (512, 512))

_SHORT = re.compile(r"(DataFeature|DFI)\b")
_BEGINS = re.compile(rf"{_SHORT.pattern}|A\s*=")
_SIGMA = ("σ", r"\sigma", "sigma", "s")
_AFTER = ("∘", r"\circ", "o")


@dataclasses.dataclass(frozen=True)
class DataFeatureSpec(Grids):
    """The data-feature iteration with any of the sixteen A and B.

    Attributes:
      nu, channels, share_B: as for MgNet.
      A, B: "K", "Ks", "sK" or "sKs".

    Raises:
      SpecError: one of them is something else.
    """

    begins: ClassVar[re.Pattern[str]] = _BEGINS
    example: ClassVar[str] = "A=A^l * σ, B=σ∘B^{l,i} * or DataFeature(Ks,sK)[2,2]-[16]-B^l"

    nu: tuple[int, ...] = NU
    channels: tuple[Channels, ...] = CHANNELS
    share_B: bool = False
    A: str = "K"
    B: str = "sKs"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("A", "B"):
            value = getattr(self, name)
            if value not in FORMS:
                raise SpecError(f"{name}={value!r} is not one of {', '.join(FORMS)}")

    @property
    def scheme(self) -> Scheme:
        """A and B as they are; batch norm after B."""
        return Scheme(Map(self.A), Map(self.B, norm=True), share_B=self.share_B)

    @property
    def details(self) -> dict[str, str]:
        """What the parts of the network do, for people."""
        forms = f"A = {self.A}, B = {self.B}; "
        return {
            name: (forms if name.startswith("level") else "") + words
            for name, words in super().details.items()
        }

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reads `DataFeature(K,sKs)[2,2]-[8]-B^l` or Table 1's `A=A^l * σ, B=σ∘B^{l,i} *`.

        The short form may end after its forms or its channels, and Table 1's may go on with
        `, [2,2]-[8]`.
        """
        if reader.match(_SHORT) is None:
            return cls._read_words(reader)
        reader.expect("(", "'(' and the forms of A and B, as in DataFeature(K,sKs)")
        A = _form(reader)
        reader.expect(",", "',' and the form of B")
        B = _form(reader)
        reader.expect(")", "')'")
        if reader.at_end():
            return cls(A=A, B=B)
        nu, channels = reader.grids("'[' and the smoothing steps of each grid", pairs=True)
        share_B = reader.accept("-") and reader.sharing("B")
        return cls(nu, channels, share_B, A, B)

    @classmethod
    def _read_words(cls, reader: Reader) -> Self:
        A, share_A, A_at = _words(reader, "A")
        if not share_A:
            reader.place = A_at
            reader.fail("A^l: one linear system a grid has one A", found=False)
        reader.expect(",", "',' and B=")
        B, share_B, _ = _words(reader, "B")
        if not reader.accept(","):
            return cls(A=A, B=B, share_B=share_B)
        nu, channels = reader.grids("'[' and the smoothing steps of each grid", pairs=True)
        return cls(nu, channels, share_B, A, B)

    @property
    def canonical(self) -> str:
        """`DataFeature(K,sKs)[2,2,2,2]-[64,128,256,512]-B^{l,i}`."""
        return f"DataFeature({self.A},{self.B}){self.grids}"


def _named(after: bool, before: bool) -> str:
    """The form out of `FORMS` with s after K, before it, both or neither."""
    return f"{'s' if after else ''}K{'s' if before else ''}"


def _form(reader: Reader) -> str:
    after = reader.accept(*_SIGMA)
    reader.expect("K", "one of K, Ks, sK, sKs")
    return _named(after, reader.accept(*_SIGMA))


def _words(reader: Reader, symbol: str) -> tuple[str, bool, int]:
    """Reads `A=σ∘A^l * σ`: the form, whether it is shared, and where the kernel stands."""
    reader.expect(symbol, f"{symbol}=")
    reader.expect("=", "'='")
    after = reader.accept(*_SIGMA)
    if after and not reader.accept(*_AFTER):
        reader.fail("'∘'")
    reader.skip_space()
    kernel_at = reader.place
    shared = reader.sharing(symbol)
    reader.expect("*", "'*'")
    return _named(after, reader.accept(*_SIGMA)), shared, kernel_at
