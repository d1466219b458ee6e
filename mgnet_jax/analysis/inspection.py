"""All that can be said of a trained network's iterations, as numbers."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.analysis import linear
from mgnet_jax.analysis.parts import kernel_of, levels_of, scheme_of, steps_of
from mgnet_jax.analysis.symbol import Character, character
from mgnet_jax.analysis.trace import Trace, trace
from mgnet_jax.analysis.variants import doubled, variants
from mgnet_jax.models import Network, features

BATCH = 100
"""Images computed at once."""
LEADING = 6
"""Eigenvalues of each step."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """A kernel A of a grid, and what kind of operator it is.

    Attributes:
      level: the grid.
      step: which step has it, from 1; None: all have.
      character: see `symbol.Character`.
    """

    level: str
    step: int | None
    character: Character


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """What a step does to a small error around its state at one image, see `linear`.

    Attributes:
      level, step: which, the step from 1.
      state: "u" or "r", whose error it is.
      eigenvalues: of E, those of largest magnitude, complex.
      damping: ||E e|| / ||e|| of errors in bands of frequencies, low to high.
    """

    level: str
    step: int
    state: str
    eigenvalues: np.ndarray
    damping: np.ndarray

    @property
    def radius(self) -> float:
        """The spectral radius of E."""
        return float(np.abs(self.eigenvalues).max())


@dataclasses.dataclass(frozen=True)
class Ablation:
    """The accuracy of the trained weights in another use, see `variants.Variant`."""

    level: str
    change: str
    steps: int
    trained: int
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
      images: how many were looked at.
      accuracy: of the network on these, as it was trained.
      traces: of each grid.
      disagreement: of the two forms of the residual by grid, in float64, see `trace.Trace`.
      operators: of each grid's A.
      dynamics: of each step, at the first image.
      ablations: see there.
    """

    images: int
    accuracy: float
    traces: list[Trace]
    disagreement: dict[str, float | None]
    operators: list[Operator]
    dynamics: list[Dynamics]
    ablations: list[Ablation]

    def as_json(self) -> dict[str, Any]:
        """The numbers as JSON has them; infinite ones and nan are None, eigenvalues [re, im]."""
        found = _plain(dataclasses.asdict(self))
        return dict(found)


def inspect(model: Network, variables: Any, images: Any, labels: np.ndarray) -> Inspection:
    """Looks into a network.

    Args:
      model: the network, of float32 or float64.
      variables: of it.
      images: normalised, float (N, H, W, C).
      labels: their classes, (N,).

    Raises:
      ModelError: the network is not made of steps with A and B.
    """
    scheme_of(model)
    batches = [jnp.asarray(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    traces = trace(model, variables, batches)
    ablations, accuracy = _ablations(model, variables, batches, labels)
    with jax.enable_x64(True):
        exact = model.clone(dtype="float64")
        wide: Any = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), variables)
        few = jnp.asarray(np.asarray(images[:10]), jnp.float64)
        disagreement = {t.level: t.disagreement for t in trace(exact, wide, [few])}
        dynamics = list(_dynamics(exact, wide, few[:1]))
    return Inspection(
        len(images),
        accuracy,
        traces,
        disagreement,
        list(_operators(variables)),
        dynamics,
        ablations,
    )


def _operators(variables: Any) -> Iterator[Operator]:
    for level in levels_of(variables):
        each = variables["params"][level]["A"].ndim == 5
        for step in range(steps_of(variables, level) if each else 1):
            kernel = np.asarray(kernel_of(variables, level, "A", step), float)
            yield Operator(level, step + 1 if each else None, character(kernel))


def _dynamics(model: Network, variables: Any, image: jax.Array) -> Iterator[Dynamics]:
    seen = jax.jit(lambda v, x: features(model, v, x))(variables, image)
    for level in levels_of(variables):
        for step in range(steps_of(variables, level)):
            around = linear.linearise(model, variables, seen, level, step)
            values = linear.eigenvalues(around, LEADING)
            yield Dynamics(level, step + 1, around.state, values, linear.damping(around))


def _ablations(
    model: Network, variables: Any, batches: list[jax.Array], labels: np.ndarray
) -> tuple[list[Ablation], float]:
    """The accuracies of all variants, and of the network itself."""

    def scorer(network: Network) -> Any:
        def found(v: Any, x: jax.Array) -> jax.Array:
            return jnp.argmax(network.apply(v, x), -1)  # type: ignore[arg-type]

        compiled = jax.jit(found)

        def score(tree: Any) -> float:
            guesses = np.concatenate([np.asarray(compiled(tree, batch)) for batch in batches])
            return float(np.mean(guesses == labels))

        return score

    longer, _ = doubled(model, variables)
    score = scorer(longer)
    found = [
        Ablation(v.level, v.change, v.steps, v.trained, score(v.variables))
        for v in variants(model, variables)
    ]
    return found, scorer(model)(variables)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, complex):
        return [_plain(value.real), _plain(value.imag)]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
