"""One key of a configuration: its default, what it means, and what values it may have."""

import dataclasses
from collections.abc import Callable
from typing import Any

INFINITY = float("inf")


class ConfigError(Exception):
    """A configuration cannot be run; the message names the key, its value and the fix.

    Not a ValueError: config_flags would wrap one that a config file raises into a traceback.
    """

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class Key:
    """One key: its default, which fixes its type; what it means; and what values it may have."""

    default: Any
    meaning: str
    allowed: Callable[[Any], bool] = lambda value: True
    range: str = ""


def choice(default: str, choices: tuple[str, ...], meaning: str) -> Key:
    """One of a few words."""
    return Key(default, meaning, lambda v: v in choices, "one of " + ", ".join(map(repr, choices)))


def at_least(low: int, default: int, meaning: str, bits: int = 32) -> Key:
    """A whole number in [low, 2**bits)."""
    fits = lambda v: low <= v < 2**bits  # noqa: E731
    return Key(default, meaning, fits, f"a whole number >= {low} and < 2**{bits}")


def per_channel(meaning: str, above: float = -INFINITY) -> Key:
    """A finite number > above for each channel of the images; () stands for the data set's own."""
    fits = lambda v: all(type(x) in (int, float) and above < x < INFINITY for x in v)  # noqa: E731
    numbers = "finite numbers" if above == -INFINITY else f"finite numbers > {above:g}"
    return Key((), meaning, fits, f"{numbers}, one a channel as in 0.5,0.5,0.5, or ()")


def within(low: float, high: float, default: float, meaning: str) -> Key:
    """A number in [low, high)."""
    return Key(default, meaning, lambda v: low <= v < high, f"a number >= {low:g} and < {high:g}")
