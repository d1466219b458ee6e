"""The rows of the paper's eleven tables, as printed, and the configuration that trains each."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config import recipes, shipped
from mgnet_jax.config.key import ConfigError
from mgnet_jax.models import file_name, parse

SCALES = ("paper", "small")
DIVISORS = {"mnist": 8, "cifar10": 16, "cifar100": 16, "imagenet": 16}
"""What the small study divides the channels by."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      table: its number; Table 3 prints two data sets side by side, Table 4 three.
      number: of the row in its table, from 1.
      data: name of the data set.
      name: the network, as printed.
      accuracy: as printed, in %, of the best epoch of one run.
      parameters: as printed, as in "8.3M"; None where the table has none.
      known: what is known to be wrong in the row, or left open; "" if nothing is.
    """

    table: int
    number: int
    data: str
    name: str
    accuracy: float
    parameters: str | None
    known: str

    @property
    def label(self) -> str:
        """Its name for files: number, data set and network."""
        return f"{self.number:02d}-{self.data}-{file_name(parse(self.name).canonical)}"


@cache
def rows(table: int) -> tuple[Row, ...]:
    """The rows of a table in printed order.

    Raises:
      ConfigError: there is no such table.
    """
    printed = json.loads(Path(__file__).with_name("paper.json").read_text())
    found = [values for values in printed if values[0] == table]
    if not found:
        raise ConfigError(f"--table={table}: the paper's tables are 1 to {printed[-1][0]}")
    return tuple(Row(table, i, *values[1:]) for i, values in enumerate(found, 1))


def chosen(table: int, which: str) -> tuple[Row, ...]:
    """The rows of a table that a person means.

    Args:
      table: its number.
      which: numbers or parts of names with ';' between them; "" is all.

    Raises:
      ConfigError: there is no such table or row.
    """
    every = rows(table)
    words = [word.strip() for word in which.split(";") if word.strip()]
    for word in words:
        if not any(_meant(row, word) for row in every):
            there = "; ".join(f"{row.number} {row.name} ({row.data})" for row in every)
            raise ConfigError(f"--rows={which!r}: {word!r} is no row of Table {table}: {there}")
    return tuple(row for row in every if not words or any(_meant(row, w) for w in words))


def _meant(row: Row, word: str) -> bool:
    return row.number == int(word) if word.isdecimal() else word in (row.name, row.data, row.label)


def configuration(row: Row, scale: str, seed: int, overrides: dict[str, Any]) -> ConfigDict:
    """The configuration of a row.

    Args:
      row: of a table.
      scale: "paper", its recipe; or "small": `recipes.STUDY`, with fewer channels.
      seed: of the run.
      overrides: {"section.key": value} in place of all that.

    Raises:
      ConfigError: the network has no narrower form.
    """
    config = shipped.load(row.data, "paper")
    spec = row.name
    if scale == "small":
        config.update_from_flattened_dict(recipes.STUDY)
        narrow = parse(row.name).narrowed(DIVISORS[row.data])
        if narrow is None:
            raise ConfigError(f"{row.name} has no narrower form for the small study")
        spec = narrow.canonical
    config.update_from_flattened_dict({"model.spec": spec, "name": f"{row.label}-seed{seed}"})
    config.update_from_flattened_dict(overrides | {"seed": seed})
    return config
