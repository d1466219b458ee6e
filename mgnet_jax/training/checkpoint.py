"""Checkpoints of a run, with orbax: the only place that knows it.

A checkpoint is the whole `TrainState` after some step. The newest few are kept, and the one with
the best score.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mgnet_jax.training.state import TrainState

UNSCORED = -1.0  # below any accuracy


class CheckpointError(ValueError):
    """A checkpoint is not there or damaged; the message says which there are, and what to do."""

    exit_code = 2


def open_checkpoints(workdir: Path, keep: int | None = None) -> ocp.CheckpointManager:
    """The checkpoints in workdir/checkpoints.

    Args:
      workdir: folder of the run.
      keep: how many of the newest checkpoints stay; the best scored stays besides. The folder is
        made if missing, and what a broken-off save left is removed. None: to read only, without
        changing anything, also while a run is writing there.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if keep is None:
        options = ocp.CheckpointManagerOptions(best_fn=_score, best_mode="max", create=False)
        return ocp.CheckpointManager(folder, options=options)
    best = preservation_policy.BestN(get_metric_fn=_score, n=1)
    options = ocp.CheckpointManagerOptions(
        best_fn=_score,
        best_mode="max",
        preservation_policy=preservation_policy.AnyPreservationPolicy(
            [preservation_policy.LatestN(keep), best]
        ),
        # the state's buffers are donated to the next step, so a save must have ended by then
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(folder, options=options)


def _score(metrics: dict[str, Any]) -> float:
    return metrics["score"]


def save(
    checkpoints: ocp.CheckpointManager,
    state: TrainState,
    score: float | None = None,
    sums: dict[str, float] | None = None,
) -> None:
    """Saves the state under its step and returns when it is on disk.

    One that is there already is replaced, if there is another besides.

    Args:
      checkpoints: from `open_checkpoints`.
      state: what to save.
      score: the accuracy by which the best epoch is chosen, if this is the end of a scored epoch.
        Of equal scores the later one is the best.
      sums: the metrics of the steps since the last record, from `Metrics.kept`.
    """
    step = int(state.step)
    if step in (steps := checkpoints.all_steps()):
        if len(steps) == 1:
            return
        checkpoints.delete(step)
    checkpoints.save(
        step,
        args=ocp.args.StandardSave(state),
        metrics={"score": UNSCORED if score is None else score, "sums": sums or {}},
        force=True,
    )


def notes(checkpoints: ocp.CheckpointManager, step: int) -> tuple[float | None, dict[str, float]]:
    """What was saved with a state: its score, None if it has none, and its sums (see `save`)."""
    saved = checkpoints.metrics(step) or {}
    score = saved.get("score", UNSCORED)
    return None if score == UNSCORED else score, saved.get("sums") or {}


def find(checkpoints: ocp.CheckpointManager, which: str = "last") -> int | None:
    """The step of a checkpoint: "last", "best" or a number; None where there is none at all.

    Raises:
      CheckpointError: `which` is none of these, or there are checkpoints but not this one.
    """
    steps = sorted(checkpoints.all_steps())
    if not steps:
        return None
    if which == "last":
        return steps[-1]
    best = checkpoints.best_step()
    if best is not None and notes(checkpoints, best)[0] is None:
        best = None
    if which == "best" and best is not None:
        return best
    if which.isdecimal() and int(which) in steps:
        return int(which)
    raise CheckpointError(
        f"no checkpoint {which!r} in {checkpoints.directory}; there are 'last', "
        f"{'' if best is None else repr('best') + ', '}{', '.join(map(str, steps))}"
    )


def restore(checkpoints: ocp.CheckpointManager, step: int, like: Any) -> TrainState:
    """The state saved at that step.

    Args:
      checkpoints: from `open_checkpoints`.
      step: from `find`.
      like: the state's shapes, types and shardings, as jax.ShapeDtypeStruct.

    Raises:
      CheckpointError: it is damaged, or of another network.
    """
    try:
        return checkpoints.restore(step, args=ocp.args.StandardRestore(like))
    except (MemoryError, jax.errors.JaxRuntimeError):  # not the checkpoint's fault
        raise
    except Exception as error:  # orbax and tensorstore raise many kinds
        others = [other for other in sorted(checkpoints.all_steps()) if other != step]
        rest = f"there are {', '.join(map(str, others))} besides" if others else "there is no other"
        raise CheckpointError(
            f"checkpoint {Path(checkpoints.directory, str(step))} cannot be read; remove that "
            f"folder to do without it ({rest}). {type(error).__name__}: {str(error)[:200]}"
        ) from error


def exist(workdir: Path) -> bool:
    """Whether there is a folder of any checkpoint in workdir, whole or not."""
    return any((Path(workdir) / "checkpoints").glob("[0-9]*"))
