"""SGD as PyTorch computes it, Muon, and learning-rate schedules in optimiser steps."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from mgnet_jax.config import ConfigError

TO_ZERO: dict[str, Callable[[float, int], optax.Schedule]] = {
    "cosine": optax.cosine_decay_schedule,
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
}
"""Schedules whose rates depend on the length of training, of the peak and the steps after it."""


def make_schedule(optim: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the optimiser step, from 0.

    Args:
      optim: the `optim` section of a configuration: schedule "step" (times step_factor at the
        start of each epoch whose number is a multiple of step_epochs, the number of the first
        being first_epoch; the paper's), "cosine" (to 0 at the end; Loshchilov and Hutter 2017),
        "linear" (to 0 in a straight line; Smith 2018) or "constant"; learning_rate its peak;
        warmup_epochs of linear warm-up from 0 before it. The epochs of "step" count from the start
        of training, warm-up included.
      epochs: length of training.
      steps_per_epoch: optimiser steps of one epoch.
    """
    peak, total = optim["learning_rate"], epochs * steps_per_epoch
    warmup = round(optim["warmup_epochs"] * steps_per_epoch)
    if optim["schedule"] in TO_ZERO:
        main = TO_ZERO[optim["schedule"]](peak, max(1, total - warmup))
    elif optim["schedule"] == "step" and optim["step_epochs"] <= epochs:
        ahead = warmup + optim["first_epoch"] * steps_per_epoch
        main = _drops(
            peak, optim["step_factor"], optim["step_epochs"] * steps_per_epoch, ahead, total
        )
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def _drops(peak: float, factor: float, every: int, ahead: int, total: int) -> optax.Schedule:
    """The rate at its peak times a factor for each `every` steps: optax's piecewise constant one.

    Looked up by the number of drops, for this may be millions.

    Args:
      peak: before any drop.
      factor: of a drop.
      every: steps between drops.
      ahead: what the schedule's step 0 is counted as.
      total: steps of training.
    """
    before = ahead // every
    rates = np.full((total + ahead) // every - before + 1, factor, jnp.result_type(float))
    rates[0] = peak * factor**before
    rates = np.multiply.accumulate(rates)
    rates[rates < np.finfo(rates.dtype).tiny] = 0  # as XLA does
    last = np.flatnonzero(np.diff(rates, append=rates[-1]))  # all after it are the same
    table = rates[: last[-1] + 2] if last.size else rates[:1]

    def schedule(step: Any) -> jax.Array:
        drops = (step + ahead) // every - before
        return jnp.asarray(table)[jnp.clip(drops, 0, len(table) - 1)]

    return schedule


def make_optimizer(
    optim: Mapping[str, Any], schedule: optax.Schedule, freeze: str = ""
) -> optax.GradientTransformation:
    """SGD with momentum, of the kernels optionally Muon; weight decay is added before the momentum.

    With g the gradient and w the weight: g <- g + weight_decay w, m <- momentum m + g, and
    w <- w - rate m, or with Nesterov's momentum w <- w - rate (g + momentum m). It is PyTorch's
    SGD, in which a changed rate acts on the momentum too.

    Args:
      optim: the `optim` section of a configuration; decay_mask "all" (PyTorch's, the paper's) or
        "kernels" (batch norms and biases do not decay).
      schedule: learning rate by step.
      freeze: patterns of parameters that stay as they are, see `frozen`.

    With clip_norm > 0, a gradient whose 2-norm over all parameters is larger is scaled to it first
    (Pascanu, Mikolov and Bengio 2013).

    With muon > 0, a kernel's step is `orthogonal` of its momentum times muon (Jordan et al. 2024),
    and its decay is added after that: w <- w - rate (muon O(m) + weight_decay w). Its momentum is
    muon_momentum. Kernels of the stem, and the head's matrix, have SGD all the same.

    The state is the same tree whatever the values, so that a run can go on with others.
    """
    clip, muon, decay = optim["clip_norm"], optim["muon"], optim["weight_decay"]
    decays = decay_mask if optim["decay_mask"] == "kernels" else _all

    def of_muon(params: Any) -> Any:
        return jax.tree.map(lambda hidden: hidden and muon > 0, hidden_kernels(params))

    def decays_before(params: Any) -> Any:
        return jax.tree.map(lambda decay, late: decay and not late, decays(params), of_muon(params))

    traces = {
        True: optax.trace(optim["muon_momentum"], optim["nesterov"]),
        False: optax.trace(optim["momentum"], optim["nesterov"]),
    }

    def step(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        def one(is_muons: bool, g: jax.Array, m: jax.Array, w: jax.Array) -> Any:
            g, (m,) = traces[is_muons].update(g, optax.TraceState(m))
            return (muon * orthogonal(g) + decay * w if is_muons else g), m

        both = jax.tree.map(one, of_muon(params), updates, state.trace, params)
        pair = jax.tree.structure((0, 0))
        updates, momentum = jax.tree.transpose(jax.tree.structure(params), pair, both)
        return updates, optax.TraceState(momentum)

    still = [optax.masked(optax.set_to_zero(), lambda p: frozen(p, freeze))] if freeze else []
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.add_decayed_weights(decay, decays_before),
        optax.chain(  # optax.sgd, with Muon in it
            optax.GradientTransformation(traces[False].init, step),
            optax.scale_by_learning_rate(schedule),
        ),
        *still,
    )


def orthogonal(momentum: jax.Array) -> jax.Array:
    """Of a kernel's momentum the orthogonal matrix that is nearest, roughly: Muon's step.

    Its singular values become 0.7 to 1.2, by five Newton-Schulz iterations, as optax has them.

    Args:
      momentum: (..., k, k, c_in, c_out): a matrix (k k c_in, c_out), or a stack of them.
    """
    n = momentum.ndim
    axes = optax.contrib.MuonDimensionNumbers((n - 4, n - 3, n - 2), n - 1)
    muon = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=axes)
    step, _ = muon.update(momentum, muon.init(momentum))  # its own momentum is none
    return step


def hidden_kernels(params: Any) -> Any:
    """True for kernels (..., k, k, c_in, c_out) but those of the stem."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x.ndim >= 4 and path[0].key != "stem", params
    )


def _all(params: Any) -> Any:
    """True for every parameter."""
    return jax.tree.map(lambda _: True, params)


def decay_mask(params: Any) -> Any:
    """True for convolution kernels and matrices, False for batch norms and biases."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )


def frozen(params: Any, patterns: str) -> Any:
    """True for the parameters whose path, as in level1/step/bn_r/scale, fits one of the patterns.

    Args:
      params: the tree of parameters.
      patterns: with commas between them; * and ? stand for anything and for one letter.

    Raises:
      ConfigError: a pattern fits no parameter.
    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    for pattern in wanted:
        if not fnmatch.filter(jax.tree.leaves(paths), pattern):
            there = ", ".join(sorted({path.split("/")[0] for path in jax.tree.leaves(paths)}))
            raise ConfigError(
                f"config.init.freeze={patterns!r}: {pattern!r} fits no parameter; there are those "
                f"in {there}, as in 'stem/*'"
            )
    return jax.tree.map(lambda path: any(fnmatch.fnmatch(path, one) for one in wanted), paths)
