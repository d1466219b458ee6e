"""SGD as PyTorch computes it, and learning-rate schedules in optimiser steps."""

from collections.abc import Mapping
from typing import Any

import jax
import optax


def make_schedule(optim: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the optimiser step, from 0.

    Args:
      optim: the `optim` section of a configuration: schedule "step" (times step_factor at the
        start of each epoch whose number is a multiple of step_epochs, the number of the first
        being first_epoch; the paper's), "cosine" (to 0 at the end; Loshchilov and Hutter 2017) or
        "constant"; learning_rate its peak; warmup_epochs of linear warm-up from 0 before it. The
        epochs of "step" count from the start of training, warm-up included.
      epochs: length of training.
      steps_per_epoch: optimiser steps of one epoch.
    """
    peak, total = optim["learning_rate"], epochs * steps_per_epoch
    warmup = round(optim["warmup_epochs"] * steps_per_epoch)
    if optim["schedule"] == "cosine":
        main = optax.cosine_decay_schedule(peak, max(1, total - warmup))
    elif optim["schedule"] == "step":
        every = optim["step_epochs"] * steps_per_epoch
        drops = range(every - optim["first_epoch"] * steps_per_epoch, total, every)
        before = sum(drop <= warmup for drop in drops)
        main = optax.piecewise_constant_schedule(
            peak * optim["step_factor"] ** before,
            {drop - warmup: optim["step_factor"] for drop in drops if drop > warmup},
        )
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def make_optimizer(
    optim: Mapping[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """SGD with momentum; weight decay is added to the gradient before the momentum.

    With g the gradient and w the weight: g <- g + weight_decay w, m <- momentum m + g, and
    w <- w - rate m, or with Nesterov's momentum w <- w - rate (g + momentum m). It is PyTorch's
    SGD, in which a changed rate acts on the momentum too.

    Args:
      optim: the `optim` section of a configuration; decay_mask "all" (PyTorch's, the paper's) or
        "kernels" (batch norms and biases do not decay).
      schedule: learning rate by step.

    With clip_norm > 0, a gradient whose 2-norm over all parameters is larger is scaled to it first
    (Pascanu, Mikolov and Bengio 2013).
    """
    mask = decay_mask if optim["decay_mask"] == "kernels" else None
    clip = optim["clip_norm"]
    return optax.chain(
        *([optax.clip_by_global_norm(clip)] if clip else []),
        optax.add_decayed_weights(optim["weight_decay"], mask),
        optax.sgd(schedule, optim["momentum"] or None, optim["nesterov"]),
    )


def decay_mask(params: Any) -> Any:
    """True for convolution kernels and matrices, False for batch norms and biases."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in ("scale", "bias"), params
    )
