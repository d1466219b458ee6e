"""The paper's notation of a network, as text and as a dataclass.

`parse("MgNet[2,2,2,2]-[256]-B^l")` gives an `MgNetSpec`; `str` of it gives the notation back.
The notation is that of Tables 4-11: the smoothing steps of each grid, the channels of each grid
(one number for all grids, one a grid, or a pair c_u, c_f a grid), and whether the extractor B is
one kernel a grid (`B^l`) or one an iteration (`B^{l,i}`).
"""

import dataclasses
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

Channels = tuple[int, int]
T = TypeVar("T")


class ModelError(ValueError):
    """A model cannot be made as asked; the message names the option, its value and the fix."""


class SpecError(ModelError):
    """A model's name cannot be read; the message points at the place in it."""


@dataclasses.dataclass(frozen=True)
class MgNetSpec:
    """MgNet: grid l smooths A^l u = f with nu_l steps.

    Attributes:
      nu: smoothing steps of each grid, finest first; each at least 1.
      channels: (c_u, c_f) of each grid: the channels of the features u and of the data f.
      share_B: True for `B^l` (one extractor a grid), False for `B^{l,i}` (one a step).
      written: the text that this was parsed from, kept for printing; not part of equality, and
        dropped by `dataclasses.replace`.

    Raises:
      SpecError: nu and channels differ in length, or hold anything but whole numbers >= 1.
    """

    nu: tuple[int, ...]
    channels: tuple[Channels, ...]
    share_B: bool = True
    written: str | None = dataclasses.field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.nu or not all(_is_count(n) for n in self.nu):
            raise SpecError(f"nu must be whole numbers >= 1, one a grid; it is {self.nu!r}")
        pairs = all(isinstance(c, tuple) and len(c) == 2 for c in self.channels)
        if not pairs or not all(_is_count(n) for pair in self.channels for n in pair):
            raise SpecError(
                f"channels must be pairs (c_u, c_f) of whole numbers >= 1; they are "
                f"{self.channels!r}"
            )
        if len(self.channels) != len(self.nu):
            raise SpecError(
                f"nu has {len(self.nu)} grids and channels has {len(self.channels)}: "
                f"give one entry a grid in both"
            )

    @property
    def canonical(self) -> str:
        """The one normal form of the notation, the same for equal specs."""
        if any(c_u != c_f for c_u, c_f in self.channels):
            channels = ",".join(f"({c_u},{c_f})" for c_u, c_f in self.channels)
        elif len(set(self.channels)) == 1:
            channels = str(self.channels[0][0])
        else:
            channels = ",".join(str(c_u) for c_u, _ in self.channels)
        B = "B^l" if self.share_B else "B^{l,i}"
        return f"MgNet[{','.join(map(str, self.nu))}]-[{channels}]-{B}"

    def __str__(self) -> str:
        return self.written or self.canonical


def parse(text: str) -> MgNetSpec:
    r"""Reads the paper's notation.

    Accepts every printed form: `MgNet[2,2,2,2]-256-B^l`, `-[256]-`, `-[64,128,256,512]-`,
    `-[(64,128),(128,256)]-`, and `B^l`, `B^{l}`, `B^{l,i}`, each with `l`, `\ell` or the
    unicode ell. Spaces may stand between any two symbols.

    Raises:
      SpecError: with a caret under the first place that does not fit.
    """
    spec = _Reader(text).whole(_Reader.spec)
    object.__setattr__(spec, "written", text.strip())
    return spec


def modify(
    spec: MgNetSpec,
    nu: tuple[int, ...] = (),
    channels: tuple[int | Channels, ...] = (),
    B: str = "",
) -> MgNetSpec:
    """The spec with some parts replaced; an empty value leaves its part as it is.

    Args:
      spec: where to start from.
      nu: smoothing steps, one a grid.
      channels: numbers or (c_u, c_f) pairs, one a grid or one for all. Where nu changes the number
        of grids and channels is not given, the channels must be the same on all grids.
      B: the extractor in the paper's notation, as `B^l` or `B^{l,i}`.

    Raises:
      SpecError: the parts do not fit each other, or B cannot be read.
    """
    levels = len(nu or spec.nu)
    if channels:
        pairs = _one_pair_a_grid(channels, levels)
    elif len(set(spec.channels)) == 1:
        pairs = spec.channels[:1] * levels
    else:
        pairs = spec.channels
    share_B = _Reader(B).whole(_Reader.extractor) if B else spec.share_B
    changed = MgNetSpec(nu or spec.nu, pairs, share_B)
    return spec if changed == spec else changed


def _one_pair_a_grid(channels: tuple[int | Channels, ...], levels: int) -> tuple[Channels, ...]:
    pairs = tuple(c if isinstance(c, tuple) else (c, c) for c in channels)
    return pairs * levels if len(pairs) == 1 else pairs


def _is_count(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and n >= 1


class _Reader:
    """Recursive descent over the text, keeping the place for error messages."""

    _SPACE = re.compile(r"\s*")
    _NUMBER = re.compile(r"[0-9]+")
    _ELL = re.compile(r"l|ℓ|\\ell(?![A-Za-z])")

    def __init__(self, text: str):
        self.text = text
        self.place = 0

    def whole(self, part: Callable[["_Reader"], T]) -> T:
        """Reads one part that must be all of the text."""
        value = part(self)
        self.skip_space()
        if self.place < len(self.text):
            self.fail("the end")
        return value

    def spec(self) -> MgNetSpec:
        self.expect("MgNet", "the family MgNet")
        self.expect("[", "'[' and the smoothing steps of each grid, as in MgNet[2,2,2,2]")
        nu = self.list_of(lambda: self.number("smoothing steps"), "]")
        self.expect("-", "'-' and the channels")
        self.skip_space()
        channels_at = self.place
        if self.accept("["):
            channels = self.list_of(self.channel, "]")
        else:
            channels = [self.number("channels")]
        if len(channels) not in (1, len(nu)):
            self.place = channels_at
            self.fail(
                f"{len(nu)} channel entries, one a grid, or a single one for all grids; "
                f"here are {len(channels)}",
                found=False,
            )
        self.expect("-", "'-' and B^l or B^{l,i}")
        share_B = self.extractor()
        return MgNetSpec(tuple(nu), _one_pair_a_grid(tuple(channels), len(nu)), share_B)

    def extractor(self) -> bool:
        """`B^l` (True: shared over a grid's steps) or `B^{l,i}` (False)."""
        self.expect("B", "B^l or B^{l,i}")
        self.expect("^", "'^' and l or {l,i}")
        if not self.accept("{"):
            self.ell()
            return True
        self.ell()
        shared = not self.accept(",")
        if not shared:
            self.expect("i", "'i'")
        self.expect("}", "'}'")
        return shared

    def channel(self) -> int | Channels:
        if not self.accept("("):
            return self.number("channels")
        c_u = self.number("channels of u")
        self.expect(",", "',' and the channels of f")
        c_f = self.number("channels of f")
        self.expect(")", "')'")
        return c_u, c_f

    def list_of(self, item: Callable[[], T], end: str) -> list[T]:
        items = [item()]
        while self.accept(","):
            items.append(item())
        self.expect(end, f"',' or '{end}'")
        return items

    def number(self, what: str) -> int:
        self.skip_space()
        match = self._NUMBER.match(self.text, self.place)
        if not match or int(match.group()) < 1:
            self.fail(f"a whole number of {what} >= 1")
        self.place = match.end()
        return int(match.group())

    def ell(self) -> None:
        self.skip_space()
        match = self._ELL.match(self.text, self.place)
        if not match:
            self.fail(r"l, \ell or ℓ")
        self.place = match.end()

    def skip_space(self) -> None:
        match = self._SPACE.match(self.text, self.place)
        assert match
        self.place = match.end()

    def accept(self, symbol: str) -> bool:
        self.skip_space()
        found = self.text.startswith(symbol, self.place)
        if found:
            self.place += len(symbol)
        return found

    def expect(self, symbol: str, what: str) -> None:
        if not self.accept(symbol):
            self.fail(what)

    def fail(self, expected: str, found: bool = True) -> NoReturn:
        rest = self.text[self.place : self.place + 1]
        seen = f", found {rest!r}" if rest else ", found the end"
        raise SpecError(
            f"model name not understood, expected {expected}{seen if found else ''}:\n"
            f"  {self.text}\n  {' ' * self.place}^\n"
            f"Write it as the paper does, for example MgNet[2,2,2,2]-[256]-B^l."
        )
