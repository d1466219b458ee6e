"""Scores a checkpoint of a run, or an exported network."""

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
    from mgnet_jax.weights import folder

    join(command, NAME)
    if folder.is_folder(command.workdir):
        return score_export(command)
    require_checkpoints(command.workdir)
    config = choose_config(command)
    kept = saved_data(command.workdir)
    info = begin(config, info=kept.info if kept else None).info
    others = command.config_named or "data.dir" in command.overrides
    evaluate(config, info, kept, command.workdir, command.flags["checkpoint"], others)


def score_export(command: Command) -> None:
    """Scores the network in a folder that --mode=export wrote, on the test images of its set."""
    from mgnet_jax.data.info import Info
    from mgnet_jax.trained.network import Trained
    from mgnet_jax.training.evaluate import evaluate_weights
    from mgnet_jax.training.initial import read_weights

    weights = read_weights(str(command.workdir))
    facts, config = weights.facts, command.config
    if not command.config_named and facts.config:
        config = Trained(weights).config
        config.update_from_flattened_dict(command.overrides)
    sizes = facts.train_size, facts.test_size
    info = Info(facts.data, facts.image_shape, facts.num_classes, *sizes, facts.mean, facts.std)
    evaluate_weights(config, begin(config, info=info).info, weights)


def choose_config(command: Command) -> ConfigDict:
    """The configuration: that of --config, or without it the run's own with the overrides."""
    from mgnet_jax.training.workdir import saved_config

    saved = None if command.config_named else saved_config(command.workdir)
    if saved is None:
        return command.config
    saved.update_from_flattened_dict(command.overrides)
    return saved
