"""Trained weights in another use: other numbers of steps, reversed, averaged, made symmetric.

All are changes of the arrays, of one network with twice the steps: a step is put out of action by
its last batch norm, which then adds 0. So every variant runs with the same compiled program.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from mgnet_jax.analysis.parts import levels_of, scheme_of, steps_of
from mgnet_jax.analysis.symbol import symmetric_part
from mgnet_jax.models import Network

STEPS = ("step", "step_up")
"""What a grid's steps are called, on the way down and up again."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to use the weights.

    Attributes:
      level: the grid that it is about.
      change: "steps", "reversed", "mean B" or "symmetric A".
      steps: of that grid; a network as it was trained has `trained` of them.
      trained: see steps.
      variables: of `doubled`.
    """

    level: str
    change: str
    steps: int
    trained: int
    variables: Any


def doubled(model: Network, variables: Any) -> tuple[Network, Any]:
    """The network with twice the repeated steps on each grid, the new ones like the last.

    Returns:
      The network, and its variables with all steps in action.
    """
    scheme_of(model)
    extra = dict.fromkeys(levels_of(variables), 0)
    for level in extra:
        extra[level] = steps_of(variables, level)

    def longer(path: tuple[str, ...], x: jax.Array) -> jax.Array:
        level, name = path[1], path[2]
        stacked = level in extra and (name in STEPS or (name in "AB" and x.ndim == 5))
        return jnp.concatenate([x, jnp.repeat(x[-1:], extra[level], 0)]) if stacked else x

    grids = enumerate(model.spec.nu, 1)
    nu = tuple(n + extra.get(f"level{level}", 0) for level, n in grids)
    spec = dataclasses.replace(model.spec, nu=nu)
    return model.clone(spec=spec), _mapped(longer, variables)


def variants(model: Network, variables: Any) -> Iterator[Variant]:
    """All of them, for the network that `doubled` gives.

    Each grid runs 0 to twice its steps; its steps in reverse order; the mean of its B^{l,i}; its A
    frozen to the symmetric part. Those that change nothing, or are not defined, are left out: all
    of a network whose steps go on with fixed numbers from what the step before added.
    """
    scheme = scheme_of(model)
    if scheme.relaxation.remembers and not scheme.relaxation.learned:
        return
    _, all_on = doubled(model, variables)
    trained = {level: steps_of(variables, level) for level in levels_of(variables)}
    last = "bn_A" if scheme.A.norm else "bn_B"

    def put_out(tree: Any, level: str, first: int) -> Any:
        """Without the steps from `first` on."""

        def change(path: tuple[str, ...], x: jax.Array) -> jax.Array:
            if path[:2] != ("params", level) or path[2] not in STEPS:
                return x
            if path[3] not in (last, "relaxation"):
                return x
            return x.at[first:].set(0)

        return _mapped(change, tree)

    as_trained = all_on
    for level, steps in trained.items():
        as_trained = put_out(as_trained, level, steps)

    for level, steps in trained.items():
        others = all_on
        for other in trained:
            if other != level:
                others = put_out(others, other, trained[other])
        for count in range(2 * steps + 1):
            yield Variant(level, "steps", count, steps, put_out(others, level, count))
        A, B = (variables["params"][level][name] for name in "AB")
        if steps > 1:
            yield Variant(
                level, "reversed", steps, steps, _mapped(_reverse(level, steps), as_trained)
            )
        if B.ndim == 5 and steps > 1:
            yield Variant(level, "mean B", steps, steps, _mapped(_mean_B(level, steps), as_trained))
        if A.shape[-1] == A.shape[-2]:
            yield Variant(
                level, "symmetric A", steps, steps, _mapped(_symmetric(level), as_trained)
            )


def _own(x: jax.Array, steps: int) -> slice:
    """Where the trained steps are on the first axis, of so many and as many new ones."""
    return slice(x.shape[0] - 2 * steps, x.shape[0] - steps)


def _reverse(level: str, steps: int) -> Any:
    def change(path: tuple[str, ...], x: jax.Array) -> jax.Array:
        stacked = path[2] in STEPS or (path[2] in "AB" and x.ndim == 5)
        if path[1] != level or not stacked:
            return x
        return x.at[_own(x, steps)].set(x[_own(x, steps)][::-1])

    return change


def _mean_B(level: str, steps: int) -> Any:
    def change(path: tuple[str, ...], x: jax.Array) -> jax.Array:
        if path[1:] != (level, "B"):
            return x
        return x.at[_own(x, steps)].set(jnp.mean(x[_own(x, steps)], 0))

    return change


def _symmetric(level: str) -> Any:
    def change(path: tuple[str, ...], x: jax.Array) -> jax.Array:
        return jnp.asarray(symmetric_part(x)) if path[1:] == (level, "A") else x

    return change


def _mapped(change: Any, tree: Any) -> Any:
    """The tree with each array changed; `change` gets its path, the kind of variable first."""
    return unflatten_dict({path: change(path, x) for path, x in flatten_dict(tree).items()})
