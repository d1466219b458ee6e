"""Prints a configuration, its network, and the memory that training it takes."""

from mgnet_jax.tools.tool import Command, Flag, begin

NAME = "summary"
HELP = "print the configuration, the model and the memory to train it"
FLAGS: tuple[Flag, ...] = ()


def run(command: Command) -> None:
    """Prints what every tool prints first, and the memory, which it takes a second to tell."""
    config = command.config
    info = begin(config)

    from mgnet_jax.config import make_model
    from mgnet_jax.data import sets
    from mgnet_jax.models import count
    from mgnet_jax.training.describe import memory_summary
    from mgnet_jax.training.progress import say

    ahead = None
    if sets.are_photographs(config.data):
        ahead = config.data.prefetch * config.train.batch_size
    model = make_model(config, info)
    costs = count(model, info.image_shape)
    say(memory_summary(model, info, costs, config.train, images=ahead))
