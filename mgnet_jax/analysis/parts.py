"""Where the iteration is in a network: its levels, their steps, and what belongs to each step."""

from collections.abc import Mapping
from typing import Any

import jax

from mgnet_jax.models import ModelError, Network
from mgnet_jax.models.iteration import Scheme

Tree = Mapping[str, Any]


def scheme_of(model: Network) -> Scheme:
    """What a step of the network is.

    Raises:
      ModelError: it is not made of steps with A and B.
    """
    scheme = getattr(model.spec, "scheme", None)
    if not isinstance(scheme, Scheme):
        raise ModelError(
            f"{model.spec} is not made of smoothing steps with A and B: there is no system A u = f "
            f"to look at"
        )
    return scheme


def levels_of(variables: Tree) -> list[str]:
    """The names of the grids that have repeated steps, finest first."""
    names = [name for name, part in variables["params"].items() if "step" in part]
    return sorted(names, key=lambda name: int(name.removeprefix("level")))


def steps_of(variables: Tree, level: str) -> int:
    """How many repeated steps a grid has; a block that halves the grid is none of them."""
    return int(jax.tree.leaves(variables["params"][level]["step"])[0].shape[0])


def kernel_of(variables: Tree, level: str, name: str, step: int = 0) -> jax.Array:
    """The kernel A or B of a repeated step, (3, 3, c_in, c_out), or a polynomial's coefficients."""
    kernel = variables["params"][level][name]
    if kernel.ndim != 5:
        return kernel
    return kernel[len(kernel) - steps_of(variables, level) + step]


def step_variables(variables: Tree, level: str, step: int) -> dict[str, Any]:
    """The variables of one step, as a step of its own takes them."""
    return {
        kind: jax.tree.map(lambda x: x[step], tree[level]["step"])
        for kind, tree in variables.items()
        if "step" in tree.get(level, {})
    }
