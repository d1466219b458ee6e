"""The notation of all networks: one reader with one kind of error message, and what they share.

A family's spec (a frozen dataclass) says how its names begin, reads the rest with a `Reader`, and
prints the normal form. `registry.parse` finds the family of a name.
"""

import dataclasses
import numbers
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn, Self, TypeVar

T = TypeVar("T")
Channels = tuple[int, int]


class ModelError(ValueError):
    """A model cannot be made or used as asked; names the option, its value and the fix."""

    exit_code = 2


class SpecError(ModelError):
    """A model's name cannot be read; the message points at the place in it."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a name says of a network; equal specs are the same network.

    A family derives from it and adds its fields.

    Attributes:
      written: the text that this was parsed from, kept for printing; not part of equality, and
        dropped by `dataclasses.replace`.
      note: what is to be known of a printed name, for people; empty for most.
    """

    begins: ClassVar[re.Pattern[str]]
    """How the names of this family begin."""
    example: ClassVar[str]
    """A name of this family, for error messages."""
    network: ClassVar[Any]
    """The Flax module of this family, a `network.Network`."""

    written: str | None = dataclasses.field(
        default=None, init=False, compare=False, repr=False, kw_only=True
    )
    note: str = dataclasses.field(default="", init=False, compare=False, repr=False, kw_only=True)

    @classmethod
    def read(cls, reader: "Reader") -> Self:
        """Reads a name of this family."""
        raise TypeError(f"{cls.__name__} has no notation")

    def narrowed(self, divisor: int) -> "Spec | None":
        """The network with so many times fewer channels, at least 4; None without such a form."""
        return None

    @property
    def canonical(self) -> str:
        """The one normal form of the notation, the same for equal specs."""
        raise TypeError(f"{type(self).__name__} has no notation")

    @property
    def details(self) -> dict[str, str]:
        """What the parts of the network do, {name in the parameter tree: words}, for people."""
        return {}

    def set(self, **fields: Any) -> None:
        """Puts in fields of a spec under construction, which is frozen."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.written or self.canonical


def counts(what: str, values: Any) -> tuple[int, ...]:
    """Whole numbers >= 1 as a tuple of int, from any sequence; NumPy's integers are taken.

    Raises:
      SpecError: they are none.
    """
    wrong = SpecError(f"{what} must be whole numbers >= 1, one a grid; here is {values!r}")
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise wrong
    numbers_ = tuple(values)
    if not numbers_ or not all(_is_count(n) for n in numbers_):
        raise wrong
    return tuple(int(n) for n in numbers_)


def pairs(values: Any) -> tuple[Channels, ...]:
    """Pairs (c_u, c_f) of whole numbers >= 1 as tuples; one number stands for two equal ones.

    Raises:
      SpecError: they are none.
    """
    if isinstance(values, Iterable) and not isinstance(values, str):
        out = tuple((v, v) if _is_count(v) else v for v in values)
        if all(isinstance(p, Iterable) and not isinstance(p, str) for p in out):
            out = tuple(tuple(p) for p in out)
            if out and all(len(p) == 2 and all(map(_is_count, p)) for p in out):
                return tuple((int(a), int(b)) for a, b in out)
    raise SpecError(
        f"channels must be whole numbers >= 1, or pairs (c_u, c_f) of them, one a grid; "
        f"here is {values!r}"
    )


def same_length(nu: tuple[int, ...], channels: tuple[Any, ...]) -> None:
    """Raises SpecError unless there is one entry a grid in both."""
    if len(channels) != len(nu):
        raise SpecError(
            f"nu has {len(nu)} grids and channels has {len(channels)}: give one entry a grid in "
            f"both"
        )


def list_text(values: tuple[Any, ...]) -> str:
    """Channels as the notation has them: one number where all grids have the same."""
    flat = [v[0] if isinstance(v, tuple) and v[0] == v[1] else v for v in values]
    if any(isinstance(v, tuple) for v in flat):
        return ",".join(f"({a},{b})" for a, b in values)
    return str(flat[0]) if len(set(flat)) == 1 else ",".join(map(str, flat))


def several(count: int, what: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {what}{'s' * (count > 1)}"


def _is_count(n: object) -> bool:
    return isinstance(n, numbers.Integral) and not isinstance(n, bool) and int(n) >= 1


class Reader:
    """Recursive descent over a name, keeping the place for error messages.

    Spaces may stand between any two symbols. Every method that reads moves on past what it read
    and the spaces before it, or raises SpecError with a caret under the first place that does not
    fit.
    """

    _SPACE = re.compile(r"\s*")
    _NUMBER = re.compile(r"[0-9]+")
    _DECIMAL = re.compile(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
    _ELL = re.compile(r"l|ℓ|\\ell(?![A-Za-z])")

    def __init__(self, text: str, example: str = ""):
        self.text = text
        self.place = 0
        self.example = example

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Reads what a pattern matches here, if it does."""
        self.skip_space()
        found = pattern.match(self.text, self.place)
        if found is None:
            return None
        self.place = found.end()
        return found.group()

    def accept(self, *symbols: str) -> bool:
        """Reads one of some symbols, if one stands here."""
        self.skip_space()
        for symbol in symbols:
            if self.text.startswith(symbol, self.place):
                self.place += len(symbol)
                return True
        return False

    def expect(self, symbol: str, what: str) -> None:
        """Reads a symbol that must stand here."""
        if not self.accept(symbol):
            self.fail(what)

    def number(self, what: str) -> int:
        """Reads a whole number >= 1 and < 10**9."""
        self.skip_space()
        before = self.place
        digits = (self.match(self._NUMBER) or "").lstrip("0")
        if not 1 <= len(digits) <= 9:
            self.place = before
            self.fail(f"a whole number of {what} >= 1" + " and < 10**9" * (len(digits) > 9))
        return int(digits)

    def at(self, symbol: str) -> bool:
        """Whether a symbol stands here; nothing is read."""
        self.skip_space()
        return self.text.startswith(symbol, self.place)

    def decimal(self, what: str) -> float:
        """Reads a number such as 2, 0.8, -0.1 or 1e-3."""
        text = self.match(self._DECIMAL)
        if text is None:
            self.fail(what)
        return float(text)

    def list_of(self, item: Callable[[], T], end: str) -> list[T]:
        """Reads items with commas between them, and what ends the list."""
        items = [item()]
        while self.accept(","):
            items.append(item())
        self.expect(end, f"',' or '{end}'")
        return items

    def grids(self, opening: str, pairs: bool) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """Reads `[nu,...]-[channels,...]`: steps and channels of each grid, or one for all.

        Args:
          opening: what is expected, for the message, where '[' is missing.
          pairs: whether an entry may be (c_u, c_f); all entries are given as pairs then.
        """
        self.expect("[", opening)
        nu = self.list_of(lambda: self.number("smoothing steps"), "]")
        self.expect("-", "'-' and the channels")
        self.skip_space()
        channels_at = self.place
        item = self._pair if pairs else lambda: self.number("channels")
        channels = self.list_of(item, "]") if self.accept("[") else [item()]
        if len(channels) not in (1, len(nu)):
            self.place = channels_at
            self.fail(
                f"{len(nu)} channel entries, one a grid, or a single one for all grids; "
                f"here are {len(channels)}",
                found=False,
            )
        return tuple(nu), tuple(channels if len(channels) == len(nu) else channels * len(nu))

    def _pair(self) -> Channels:
        if not self.accept("("):
            c = self.number("channels")
            return c, c
        c_u = self.number("channels of u")
        self.expect(",", "',' and the channels of f")
        c_f = self.number("channels of f")
        self.expect(")", "')'")
        return c_u, c_f

    def sharing(self, symbol: str) -> bool:
        """Reads `A^l` (True: one kernel a grid) or `A^{l,i}` (False: one a step), A the symbol."""
        self.expect(symbol, f"{symbol}^l or {symbol}^{{l,i}}")
        self.expect("^", "'^' and l or {l,i}")
        if not self.accept("{"):
            self._ell()
            return True
        self._ell()
        shared = not self.accept(",")
        if not shared:
            self.expect("i", "'i'")
        self.expect("}", "'}'")
        return shared

    def _ell(self) -> None:
        if self.match(self._ELL) is None:
            self.fail(r"l, \ell or ℓ")

    def skip_space(self) -> None:
        """Moves on to the next symbol."""
        match = self._SPACE.match(self.text, self.place)
        assert match
        self.place = match.end()

    def at_end(self) -> bool:
        """Whether nothing is left."""
        self.skip_space()
        return self.place == len(self.text)

    def end(self) -> None:
        """Raises SpecError if something is left."""
        if not self.at_end():
            self.fail("the end")

    def fail(self, expected: str, found: bool = True) -> NoReturn:
        """Raises SpecError: what was expected at the place reached."""
        rest = self.text[self.place : self.place + 1]
        seen = f", found {rest!r}" if rest else ", found the end"
        one_line = re.sub(r"\s", " ", self.text)
        hint = f"\nWrite it as the paper does, for example {self.example}." if self.example else ""
        raise SpecError(
            f"model name not understood, expected {expected}{seen if found else ''}:\n"
            f"  {one_line}\n  {' ' * self.place}^{hint}"
        )


def sharing_text(symbol: str, shared: bool) -> str:
    """`A^l` or `A^{l,i}`."""
    return f"{symbol}^l" if shared else f"{symbol}^{{l,i}}"


def file_name(name: str) -> str:
    """A network's name without what shells and folders mind.

    Words are lower case; `^`, braces and closing brackets go, opening brackets and `@` are a dash,
    ` * ` is x: of a ResNet18 with `-A^l-B^{l,i}@table3` it leaves `resnet18-Al-Bli-table3`.
    """
    name = re.sub("[A-Z][A-Za-z]{2,}", lambda word: word[0].lower(), name)
    name = name.replace("{l,i}", "li").replace("pre-act ", "preact-").replace(" * ", "x")
    return re.sub(r"[-\[(@]+", "-", re.sub(r"[\^\])]", "", name))


def narrow(channels: int, divisor: int) -> int:
    """So many times fewer channels, and at least 4."""
    return max(4, channels // divisor)
