"""How the steps of each grid go about A u = f: the residual, u, and what each step adds."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.analysis.parts import levels_of, scheme_of
from mgnet_jax.models import Network, features


@dataclasses.dataclass(frozen=True)
class Trace:
    """One grid over N images; place i is before step i + 1, the last one after the last step.

    Attributes:
      level: its name.
      residual: ||r|| / ||f||, (places, N); where a network has no f, over ||r|| at the first place.
      u_norm: ||u||, (places, N); None without u, as the other values of u.
      moved: ||d||, the norm of what each step adds to u, (steps, N).
      zeros: share of u that is exactly 0, (places,).
      least: the smallest value of u anywhere.
      disagreement: largest |r - (f - A u)| / largest |f|, of r as the network computes it; None
        where A is not one convolution for the grid, so that there is no such sum.
      has_data: whether there is an f.
    """

    level: str
    residual: np.ndarray
    u_norm: np.ndarray | None
    moved: np.ndarray | None
    zeros: np.ndarray | None
    least: float | None
    disagreement: float | None
    has_data: bool

    def quartiles(self) -> np.ndarray:
        """25 %, 50 % and 75 % of the residual at each place, (3, places)."""
        return np.percentile(self.residual, (25, 50, 75), axis=1)


def trace(model: Network, variables: Any, batches: Iterable[jax.Array]) -> list[Trace]:
    """Follows images through the network.

    Args:
      model: the network.
      variables: of it.
      batches: normalised images, float (n, H, W, C); each size is compiled once.

    Raises:
      ModelError: the network is not made of steps with A and B.
    """
    scheme_of(model)
    look = jax.jit(lambda v, x: _numbers(model, v, x))
    found = [jax.device_get(look(variables, batch)) for batch in batches]
    return [_joined(level, [part[level] for part in found]) for level in found[0]]


def _numbers(model: Network, variables: Any, images: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """The numbers of each level for some images."""
    scheme = scheme_of(model)
    seen = features(model, variables, images)
    numbers: dict[str, dict[str, jax.Array]] = {}
    for level in levels_of(variables):
        here, found = seen[level], {}
        r, u = here["r"], here.get("u")
        data = here["f"] if "f" in here else r[0]
        found["residual"] = _norm(r) / jnp.maximum(_norm(data), jnp.finfo(r.dtype).tiny)
        found["has_data"] = jnp.array("f" in here)
        A = variables["params"][level]["A"]
        if u is not None:
            found["u_norm"], found["moved"] = _norm(u), _norm(u[1:] - u[:-1])
            found["zeros"] = jnp.mean(u == 0, tuple(range(1, u.ndim)))
            found["least"] = jnp.min(u)
        if u is not None and scheme.A.linear and A.ndim == 4 and len(u) == len(r):
            flat = u.reshape(-1, *u.shape[2:])
            Au = model.compute.conv(flat, A).reshape(r.shape)
            direct = data + scheme.sign * Au
            found["apart"] = jnp.max(jnp.abs(r - direct))
            found["largest"] = jnp.max(jnp.abs(data))
        numbers[level] = found
    return numbers


def _norm(x: jax.Array) -> jax.Array:
    """The 2-norm of each image, of (..., H, W, c)."""
    return jnp.sqrt(jnp.sum(jnp.square(x), (-3, -2, -1)))


def _joined(level: str, parts: list[dict[str, Any]]) -> Trace:
    """What was found of several batches."""

    def side_by_side(name: str) -> np.ndarray | None:
        return np.concatenate([p[name] for p in parts], -1) if name in parts[0] else None

    residual = side_by_side("residual")
    assert residual is not None
    sizes = [p["residual"].shape[-1] for p in parts]
    has_u, checked = "u_norm" in parts[0], "apart" in parts[0]
    return Trace(
        level,
        residual,
        side_by_side("u_norm"),
        side_by_side("moved"),
        np.average([p["zeros"] for p in parts], axis=0, weights=sizes) if has_u else None,
        float(min(p["least"] for p in parts)) if has_u else None,
        float(max(p["apart"] for p in parts) / max(p["largest"] for p in parts))
        if checked
        else None,
        bool(parts[0]["has_data"]),
    )
