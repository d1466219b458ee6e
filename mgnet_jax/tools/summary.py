"""Prints a configuration, its network, and the memory that training it takes."""

from mgnet_jax.tools.tool import Command, Flag, begin

NAME = "summary"
HELP = "print the configuration, the model and the memory to train it"
FLAGS: tuple[Flag, ...] = ()


def run(command: Command) -> None:
    """Prints what every tool prints first, and the memory, which it takes a second to tell."""
    config = command.config
    info, model, costs = begin(config, whole=True)

    from mgnet_jax.training.memory import estimate_memory, images_on_device
    from mgnet_jax.training.progress import say

    images = images_on_device(config, info)
    say(str(estimate_memory(model, info, costs, config.train, images=images)))
