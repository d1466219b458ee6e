"""Scoring a checkpoint of a run on the full test set."""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from mgnet_jax.data.info import DataError, Info
from mgnet_jax.data.sets import load, load_test
from mgnet_jax.training import checkpoint
from mgnet_jax.training.job import Job
from mgnet_jax.training.progress import say, table
from mgnet_jax.training.results import as_row
from mgnet_jax.training.workdir import check_workdir, require_checkpoints


def evaluate(
    config: ConfigDict, info: Info, class_names: tuple[str, ...], workdir: Path, which: str
) -> dict[str, float]:
    """Scores one checkpoint on every test image (and every held-out one, if any) and prints it.

    Only the test images need be there: without the others, those held out are not scored.

    Args:
      config: a validated configuration, that of the run.
      info: its data set.
      class_names: those that it was trained on; () if it did not keep them.
      workdir: folder of the run.
      which: "last", "best" or a step.

    Returns:
      test_loss and test_accuracy (0 to 1), and the same for validation where images are held out.

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError: the run in workdir has another configuration.
      DataError: the data set cannot be read.
    """
    require_checkpoints(workdir)
    check_workdir(config, workdir)
    data = load_test(config.data, info, class_names)
    if config.data.validation:
        try:
            data = dataclasses.replace(data, train=load(config.data).train)
        except DataError as error:
            say(f"the images held out are not scored: {error}\n")
    job = Job(config, data)
    with checkpoint.open_checkpoints(workdir) as checkpoints:
        step = checkpoint.find(checkpoints, which)
        if step is None:
            raise checkpoint.CheckpointError(f"{workdir} has no whole checkpoint yet")
        state = checkpoint.restore(checkpoints, step, job.abstract_state)
    scores = job.score(state) or {}
    say(
        f"checkpoint {step} (epoch {step / job.steps_per_epoch:g}) of {workdir}, "
        f"{job.model.spec} on {len(job.data.test):,} test images\n"
    )
    say(table([as_row(scores)]))
    return scores
