"""Reading the names of networks: one reader with one kind of error message."""

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
Channels = tuple[int, int]


class ModelError(ValueError):
    """A model cannot be made or used as asked; names the option, its value and the fix."""

    exit_code = 2


class SpecError(ModelError):
    """A model's name cannot be read; the message points at the place in it."""


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
