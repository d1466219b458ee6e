"""What a smoothing step does with what B makes of the residual: classical accelerations.

With d = B(f - A u), a step adds Delta to u:

    plain            Delta = d
    damped           Delta = omega d                      (Richardson 1911, damped Jacobi)
    two-step         Delta = alpha d + beta Delta before  (Frankel 1950, Polyak's heavy ball 1964)
    chebyshev        the same with the alpha and beta of each step that are best for eigenvalues of
                     B A in [a, b] (Golub and Varga 1961; Saad 2003, Algorithm 12.1)

Numbers that are not given in the name are learned, for each step its own, from omega = alpha = 1
and beta = 0, with which all are the plain step.
"""

import dataclasses

import numpy as np

from mgnet_jax.models.notation import SpecError
from mgnet_jax.models.reader import Reader

NAMED = {"plain": (0,), "damped": (0, 1), "two-step": (0, 2), "chebyshev": (2,)}
"""The kinds, with how many numbers each can have in its name; 0: learned."""


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """How much of d, and of the step before, a step adds to u.

    Attributes:
      kind: one of `NAMED`.
      values: the numbers of the name: omega; alpha and beta; a and b.

    Raises:
      SpecError: there is no such kind, or its numbers are wrong.
    """

    kind: str = "plain"
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in NAMED:
            raise SpecError(f"relaxation {self.kind!r} is not one of {', '.join(NAMED)}")
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        if len(self.values) not in NAMED[self.kind]:
            counts = " or ".join(map(str, NAMED[self.kind]))
            raise SpecError(f"{self.kind} takes {counts} numbers, not {list(self.values)}")
        if not np.isfinite(self.values).all():
            raise SpecError(f"the numbers of {self} must be finite")
        if self.kind == "chebyshev" and not 0 < self.values[0] < self.values[1]:
            raise SpecError(f"{self}: chebyshev(a,b) takes bounds of eigenvalues with 0 < a < b")

    @property
    def plain(self) -> bool:
        """Whether all of d is added, and nothing else."""
        return self.kind == "plain"

    @property
    def learned(self) -> bool:
        """Whether its numbers are parameters."""
        return not self.plain and not self.values

    @property
    def remembers(self) -> bool:
        """Whether a step needs what the step before added."""
        return self.kind in ("two-step", "chebyshev")

    def weights(self, steps: int) -> np.ndarray | None:
        """Numbers alpha and beta of each step, (steps, 2); None if they are learned, or plain."""
        if not self.values:
            return None
        if self.kind == "chebyshev":
            return _chebyshev(self.values[0], self.values[1], steps)
        alpha, beta = (*self.values, *(1.0, 0.0)[len(self.values) :])
        return np.tile([alpha, beta], (steps, 1))

    @classmethod
    def read(cls, reader: Reader) -> "Relaxation":
        """Reads `damped`, `damped(0.8)`, `two-step(1,0.3)`, `chebyshev(0.5,2)`."""
        kinds = [kind for kind in NAMED if kind != "plain"]
        kind = next((kind for kind in kinds if reader.accept(kind)), None)
        if kind is None:
            reader.fail(f"one of {', '.join(kinds)}")
        values: list[float] = []
        if NAMED[kind] == (2,) or reader.at("("):
            reader.expect("(", f"'(' and the numbers of {kind}")
            values = reader.list_of(lambda: reader.decimal(f"a number of {kind}"), ")")
        return cls(kind, tuple(values))

    def __str__(self) -> str:
        """Returns its name in the notation."""
        return self.kind + (f"({','.join(f'{v:g}' for v in self.values)})" if self.values else "")


def _chebyshev(a: float, b: float, steps: int) -> np.ndarray:
    middle, half = (a + b) / 2, (b - a) / 2
    found, rho = [(1 / middle, 0.0)], half / middle
    for _ in range(steps - 1):
        following = 1 / (2 * middle / half - rho)
        found.append((2 * following / half, following * rho))
        rho = following
    return np.array(found)


PLAIN = Relaxation()
"""Of the paper's networks."""
