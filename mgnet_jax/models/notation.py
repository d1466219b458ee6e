"""The notation of all networks: what their specs share.

A family's spec (a frozen dataclass) says how its names begin, reads the rest with a `Reader`, and
prints the normal form. `registry.parse` finds the family of a name.
"""

import dataclasses
import numbers
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from mgnet_jax.models.reader import ModelError as ModelError
from mgnet_jax.models.reader import Reader, SpecError

Channels = tuple[int, int]


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
    def read(cls, reader: Reader) -> Self:
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
