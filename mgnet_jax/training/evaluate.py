"""Scoring a checkpoint of a run on the full test set."""

import dataclasses
import math
from pathlib import Path

from ml_collections import ConfigDict

from mgnet_jax.data.fingerprint import fingerprint
from mgnet_jax.data.info import DataError, Info
from mgnet_jax.data.sets import load, load_test
from mgnet_jax.training import processes
from mgnet_jax.training.initial import put_in, restored
from mgnet_jax.training.job import Job
from mgnet_jax.training.outcomes import MOST, confusion_table, look
from mgnet_jax.training.progress import say, table, warn
from mgnet_jax.training.report import TrainError
from mgnet_jax.training.results import as_row
from mgnet_jax.training.state import TrainState
from mgnet_jax.training.workdir import Kept, check_workdir, require_checkpoints
from mgnet_jax.weights.facts import Weights


def evaluate(
    config: ConfigDict, info: Info, kept: Kept | None, workdir: Path, which: str, others: bool
) -> dict[str, float]:
    """Scores one checkpoint on every test image (and every held-out one, if any) and prints it.

    Only the test images need be there: without the others, those held out are not scored.

    Args:
      config: a validated configuration, that of the run.
      info: its data set.
      kept: what the run knows of the one that it was trained on; None if it kept nothing.
      workdir: folder of the run.
      which: "last", "best" or a step.
      others: whether other images than the run's may be scored; it is said if they are.

    Returns:
      test_loss and test_accuracy (0 to 1), and the same for validation where images are held out.

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError: the run in workdir has another configuration.
      DataError: the data set cannot be read, or is not the run's.
    """
    require_checkpoints(workdir)
    check_workdir(config, workdir)
    data = load_test(config.data, info, kept.class_names if kept else ())
    warn(data.unlike if processes.is_first() else "")
    if kept and kept.test and kept.test != fingerprint(data.test):
        changed = (
            f"the {len(data.test):,} test images in config.data.dir={config.data.dir!r} are not "
            f"the {kept.info.test_size:,} of the run in {workdir}"
        )
        if not others:
            raise DataError(
                f"{changed}: they were changed. To score them all the same, give "
                f"--config.data.dir=FOLDER"
            )
        say(f"note: {changed}\n")
    if config.data.validation:
        try:
            data = dataclasses.replace(data, train=load(config.data).train)
        except DataError as error:
            say(f"the images held out are not scored: {error}\n")
    job = Job(config, data)
    saved, state = restored(job, workdir, which)
    return _score(
        job,
        state,
        f"checkpoint {saved.step} (epoch {saved.step / job.steps_per_epoch:g}) of {workdir}",
    )


def evaluate_weights(config: ConfigDict, info: Info, weights: Weights) -> dict[str, float]:
    """Scores weights that are no run's on every test image, and prints it.

    Args:
      config: a validated configuration, of the network and its data.
      info: its data set.
      weights: the network.

    Returns:
      test_loss and test_accuracy (0 to 1).

    Raises:
      DataError: the data set cannot be read, or has other classes.
      WeightsError: the configuration is of another network.
    """
    data = load_test(config.data, info, weights.facts.class_names)
    warn(data.unlike if processes.is_first() else "")
    job = Job(config, data)
    state, _ = put_in(job.initial_state(), weights, job)
    return _score(job, state, weights.facts.source)


def _score(job: Job, state: TrainState, title: str) -> dict[str, float]:
    """Scores a state and prints it."""
    scores = job.score(state) or {}
    say(f"{title}, {job.model.spec} on {len(job.data.test):,} test images\n")
    say(table([as_row(scores)]))
    say_confusion(job, state)
    if not all(map(math.isfinite, scores.values())):
        raise TrainError(f"a score of {title} is not finite: it cannot be used")
    return scores


def say_confusion(job: Job, state: TrainState) -> None:
    """Says which classes the test images are taken for; of one process and of few classes."""
    names = job.data.names
    if len(names) <= MOST and not processes.several():
        counts = look(job, state.variables).confusion(len(names))
        say(f"\n{confusion_table(counts, names)}")
