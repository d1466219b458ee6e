"""Scores a checkpoint of a run."""

from ml_collections import ConfigDict

from mgnet_jax.tools.tool import PROCESSES, Command, Flag, begin, join

NAME = "eval"
HELP = "score a checkpoint on the full test set"
FLAGS = (Flag("checkpoint", "last", "last, best, or a step"), *PROCESSES)


def run(command: Command) -> None:
    """Scores the checkpoint that --checkpoint names, see `training.evaluate.evaluate`.

    Raises:
      CheckpointError: there is nothing to score.
      ConfigError: the configuration cannot be run, or is not that of the run.
    """
    from mgnet_jax.training.evaluate import evaluate
    from mgnet_jax.training.workdir import require_checkpoints, saved_data

    join(command, NAME)
    require_checkpoints(command.workdir)
    config = choose_config(command)
    kept = saved_data(command.workdir)
    info = begin(config, info=kept.info if kept else None).info
    others = command.config_named or "data.dir" in command.overrides
    evaluate(config, info, kept, command.workdir, command.flags["checkpoint"], others)


def choose_config(command: Command) -> ConfigDict:
    """The configuration: that of --config, or without it the run's own with the overrides."""
    from mgnet_jax.training.workdir import saved_config

    saved = None if command.config_named else saved_config(command.workdir)
    if saved is None:
        return command.config
    saved.update_from_flattened_dict(command.overrides)
    return saved
