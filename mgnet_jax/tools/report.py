"""Writes a page about a run."""

from pathlib import Path

from mgnet_jax.tools.tool import Command, Flag, check

NAME = "report"
HELP = "write a page about a run: curves, confusion, examples, configuration, network"
FLAGS = (
    Flag("checkpoint", "last", "of a run: last, best, or a step"),
    Flag("out", "", "file; default: report.html in the workdir"),
)


def run(command: Command) -> None:
    """Writes report.html of the run in the workdir; it needs no network to be looked at.

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError: the run's configuration cannot be used.
    """
    from mgnet_jax.data.info import DataError
    from mgnet_jax.data.sets import load_test
    from mgnet_jax.data.sources import DataSet
    from mgnet_jax.reports.run import page
    from mgnet_jax.tools.eval import choose_config
    from mgnet_jax.training import files
    from mgnet_jax.training.initial import restored
    from mgnet_jax.training.job import Job
    from mgnet_jax.training.outcomes import look
    from mgnet_jax.training.progress import say
    from mgnet_jax.training.workdir import require_checkpoints, saved_data

    workdir = command.workdir
    require_checkpoints(workdir)
    kept, config = saved_data(workdir), choose_config(command)
    info = check(config, info=kept.info if kept else None).info
    names, why = kept.class_names if kept else (), ""
    try:
        data = load_test(config.data, info, names)
    except DataError as error:
        data, why = DataSet(info, None, None, names), str(error)
    job = Job(config, data)
    saved, state = restored(job, workdir, command.flags["checkpoint"])
    seen = None if why else look(job, state.variables)
    out = Path(command.flags["out"] or workdir / "report.html")
    files.write(out, page(workdir, config, job, saved, seen, why))
    say(f"{out}{f', without examples: {why}' if why else ''}")
