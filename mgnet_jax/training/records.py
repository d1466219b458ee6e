"""The records of a run: how they begin, and what is made of them at its end."""

from pathlib import Path

from mgnet_jax.config import flatten
from mgnet_jax.training import processes
from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.job import Job
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.metrics import (
    MetricsWriter,
    NoMetrics,
    not_written,
    put_wrong_aside,
    read_metrics,
)
from mgnet_jax.training.progress import say
from mgnet_jax.training.results import results_table
from mgnet_jax.training.tracking import Tracker
from mgnet_jax.training.workdir import own_id

FILES = "checkpoints", "metrics.jsonl", "metrics.csv", "curves.png"
"""What a run leaves, besides what it keeps of itself."""


def open_metrics(
    job: Job, workdir: Path, saved: Manifest | None, finished: bool = False
) -> MetricsWriter:
    """The writer of a run's records, which has those up to the checkpoint."""
    options = {
        "history": saved.history if saved else "",
        "further": job.columns,
        "start_step": saved.step if saved else 0,
        "tensorboard": job.config.log.tensorboard,
    }
    if not processes.is_first():
        return NoMetrics(workdir, **options)
    if saved is None and (workdir / "metrics.jsonl").exists():
        say(f"There is no checkpoint in {workdir}: its metrics are written anew.")
    if wrong := put_wrong_aside(workdir, options["history"], finished):
        say(wrong)
    return MetricsWriter(workdir, **options, tracker=_tracker(job, workdir))


def _tracker(job: Job, workdir: Path) -> Tracker | None:
    """What else takes the records, if the configuration asks for it."""
    log, name = job.config.log, workdir.resolve().name
    if not log.tracker:
        return None
    return Tracker(log.tracker, log.project, name, own_id(workdir), flatten(job.config))


def mend(job: Job, workdir: Path, saved: Manifest) -> None:
    """Writes the records of a finished run again if they are not those of its checkpoint."""
    if processes.is_first() and (wrong := not_written(workdir, saved.history)):
        say(f"The metrics of {workdir} are written again: {wrong}.")
        open_metrics(job, workdir, saved, finished=True).close()


def conclude(job: Job, workdir: Path, finished_before: bool) -> None:
    """Plots the curves, and prints the scores and what is where."""
    history, curves = read_metrics(workdir), workdir / "curves.png"
    if not finished_before or not curves.exists():
        plot_curves(history, curves, f"{job.model.spec} on {job.config.data.name}")
    say(f"\n{results_table(job.config, history)}\n")
    *there, last = [name for name in FILES if (workdir / name).exists()]
    say(f"{', '.join(there)} and {last} are in {workdir}")
