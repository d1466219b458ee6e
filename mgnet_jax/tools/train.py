"""Trains a run, or goes on with it."""

from mgnet_jax.tools.tool import Command, Flag, begin

NAME = "train"
HELP = "train (or go on with) a run"
FLAGS: tuple[Flag, ...] = ()


def run(command: Command) -> None:
    """Trains the run in the workdir to its last epoch, see `training.loop.train`."""
    import jax

    from mgnet_jax.training.loop import train

    begin(command.config, jax.device_count())
    train(command.config, command.workdir, command.started)
