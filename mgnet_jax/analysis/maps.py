"""What of one image the grids hold: the most active channels, and where a class is seen."""

import dataclasses
from typing import Any

import numpy as np

MOST = 6
"""Channels shown of each kind on each grid."""


@dataclasses.dataclass(frozen=True)
class Channels:
    """The most active channels of u, f or r of one grid at one image.

    Attributes:
      level: the grid.
      kind: "u" and "r" after the last step, "f", or "x" of a network without them.
      numbers: which channels, most active first.
      values: (H, W, len(numbers)).
    """

    level: str
    kind: str
    numbers: tuple[int, ...]
    values: np.ndarray


def most_active(seen: Any, image: int) -> list[Channels]:
    """The channels with the largest mean magnitude.

    Args:
      seen: of several images, see `models.features`.
      image: which of them.
    """
    found = []
    for level in sorted(seen, key=lambda name: (len(name), name)):
        for kind, values in seen[level].items():
            whole = np.asarray(values if kind == "f" else values[-1])[image]
            order = np.argsort(-np.abs(whole).mean((0, 1)), kind="stable")[:MOST]
            numbers = tuple(int(i) for i in order)
            found.append(Channels(level, kind, numbers, whole[..., order]))
    return found


def evidence(variables: Any, seen: Any, image: int, label: int) -> np.ndarray | None:
    """The logit of a class by place, (H, W): the head's weights on its last features.

    Class activation maps (Zhou et al. 2016): the mean over the places, and the head's bias, is the
    logit. None where the head is not an average and one linear layer.
    """
    coarsest = max((name for name in seen if not name.endswith("_up")), key=lambda x: (len(x), x))
    last = seen.get("level1_up", seen[coarsest])
    values = last.get("u", last.get("r", last.get("x")))
    head = variables["params"].get("head", {})
    weights = np.asarray(head["linear"]["kernel"]) if "linear" in head else None
    if weights is None or values is None or weights.shape[0] != values.shape[-1]:
        return None
    return np.asarray(values[-1])[image] @ weights[:, label]
