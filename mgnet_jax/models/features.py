"""Looking in: the features of every grid and step of a network, of any family."""

from typing import Any

import jax
import jax.numpy as jnp

from mgnet_jax.models.network import Network


def features(
    model: Network,
    variables: Any,
    images: jax.Array,
    train: bool = False,
    rngs: dict[str, jax.Array] | None = None,
) -> dict[str, dict[str, jax.Array]]:
    """What a network computes on its way, from the same call that gives its logits.

    Args:
      model: from `create`.
      variables: from `model.init`, or of a run.
      images: float (N, height, width, channels), as for the network.
      train: normalise with the batch's statistics; the running ones are left alone.
      rngs: {"dropout": key}, for training networks that have dropout.

    Returns:
      {"level1": {"u": ..., "r": ..., "f": ...}, ...}, as far as a family has them:

      u: features u^{l,i} for i = 0 .. nu (before the first step, and after each), (nu + 1, N, H, W,
        c_u). For a pre-act ResNet with A^l what its residuals imply, from 0 on the grid's entry.
      r: residuals r^{l,i} likewise, (nu + 1, N, H, W, c_f); nu of them on a coarsest grid with a
        nonlinear A, which has no batch norms for the last one. In a ResNet the block that halves a
        grid is its hand-over, so that nu blocks have nu residuals there.
      f: the data f^l, (N, H, W, c_f), in the dual form computed for this.
      of a V-cycle also "level1_up" and the like, with u and r on the way up, from the corrected u.

      x: of the other networks, the features after each block of a stage, (blocks, N, H, W, c).

      It can be jitted; a network called without this computes and keeps none of it. Flax's own
      `capture_intermediates` works too, and gives the outputs of every module.
    """
    mutable = ["intermediates", "batch_stats"]
    _, state = model.apply(variables, images, train, mutable=mutable, rngs=rngs)
    found: dict[str, dict[str, jax.Array]] = {}
    for level, place in state["intermediates"].items():
        if isinstance(place, tuple):
            found[level] = {"x": place[0]}
            continue
        steps = place.get("step", {})
        merged = {}
        for name in ("u", "r", "x"):
            before = [] if name not in place.get("first", {}) else [place["first"][name][0][None]]
            parts = [*before, *steps.get(name, ())]
            parts += [value[None] for value in place.get(name, ())]
            if parts:
                merged[name] = jnp.concatenate(parts)
        if "f" in place:
            merged["f"] = place["f"][0]
        if merged:
            found[level] = merged
        if "u_up" in place:
            ways = {"u": place["u_up"], "r": place["r_up"]}
            found[f"{level}_up"] = {
                name: jnp.concatenate([*place["step_up"][name], *(x[None] for x in after)])
                for name, after in ways.items()
            }
    return found
