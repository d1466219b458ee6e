"""All that training changes, as one tree: what a step takes and gives, and a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


@flax.struct.dataclass
class TrainState:
    """The state after `step` optimiser steps.

    Attributes:
      step: optimiser steps done, int32 scalar.
      params: trainable parameters, float32.
      batch_stats: running means and variances of the batch norms.
      opt_state: the optimiser's momentum and step count.
      ema: {"params", "batch_stats"} averaged over the steps, or None without EMA.
      skipped: steps left out in a row up to this one, int32 scalar.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    skipped: jax.Array
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to score or export: the averaged ones where there are any."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    rng: jax.Array,
    image_shape: tuple[int, int, int],
    ema: bool = False,
) -> TrainState:
    """The state at step 0; jit it with out_shardings to make it in place on a mesh."""
    variables = model.init(rng, jnp.zeros((1, *image_shape)))
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
        # copied: donated buffers may not be shared
        ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else None,
    )


def arrays_of(state: Any) -> dict[str, str]:
    """The type and shape of each array of a state, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{x.dtype}{[*x.shape]}"
        for path, x in leaves
    }


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What arrays of a saved state and of the present one differ in, a few of them named."""
    kinds = {
        "new": [name for name in now if name not in saved],
        "missing now": [name for name in saved if name not in now],
        "other": [
            f"{name} was {saved[name]} and is {now[name]}"
            for name in now
            if name in saved and saved[name] != now[name]
        ],
    }
    return "; ".join(
        f"{kind}: {', '.join(names[:5])}{f' and {len(names) - 5} more' * (len(names) > 5)}"
        for kind, names in kinds.items()
        if names
    )
