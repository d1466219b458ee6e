"""Says what runs differ in, and how they ended."""

from pathlib import Path

from mgnet_jax.tools.tool import Command, Flag

NAME = "compare"
HELP = "say what runs differ in and how they ended: --mode=compare RUN RUN"
ARGUMENTS = "RUN"
FLAGS = (Flag("out", "", "file of a page with their curves; default: none"),)


def run(command: Command) -> None:
    """Prints the scores of the runs and the keys in which they differ.

    Raises:
      ConfigError: fewer than two folders are given, or one is no run's.
    """
    from mgnet_jax.config import ConfigError
    from mgnet_jax.reports.run import compare, scores, settings
    from mgnet_jax.training.curves import plot_overlaid
    from mgnet_jax.training.files import write, writing
    from mgnet_jax.training.metrics import read_metrics
    from mgnet_jax.training.progress import say, table
    from mgnet_jax.training.workdir import saved_config

    if len(command.arguments) < 2:
        raise ConfigError("--mode=compare needs the folders of two or more runs after it")
    runs = {}
    for name in command.arguments:
        config = saved_config(Path(name))
        if config is None:
            raise ConfigError(f"{name} is not the folder of a run")
        runs[name] = config, read_metrics(name)
    say(f"{table(scores(runs))}\n")
    different = settings(runs)
    say(table(different) if different else "their configurations are the same")
    if not command.flags["out"]:
        return
    out = Path(command.flags["out"])
    picture = out.with_suffix(".png")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_overlaid({name: history for name, (_, history) in runs.items()}, picture)
    write(out, compare(runs, picture))
    say(f"\n{out}, {picture}")
