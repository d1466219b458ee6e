"""Prints a configuration and its network."""

from mgnet_jax.tools.tool import Command, Flag, begin

NAME = "summary"
HELP = "print the configuration and the model"
FLAGS: tuple[Flag, ...] = ()


def run(command: Command) -> None:
    """Prints what every tool prints first, and nothing else."""
    begin(command.config)
