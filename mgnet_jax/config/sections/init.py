"""Keys of what a run starts from, and which of it stays as it is."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key
from mgnet_jax.data.info import Info

KEYS = {
    "init.source": Key(
        "",
        "weights to start from: a run's folder, one of --mode=export, or a file of PyTorch; empty: "
        "random ones",
    ),
    "init.checkpoint": Key(
        "last",
        "of a run to start from: last, best, or a step",
        lambda v: v in ("last", "best") or v.isdecimal(),
        "'last', 'best' or the number of a step",
    ),
    "init.freeze": Key(
        "",
        "parameters that are not trained, as in 'stem/*,level1/*'; * stands for anything; the "
        "running statistics of batch norm go on",
    ),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if a checkpoint is chosen of nothing."""
    init = config.init
    if init.checkpoint != "last" and not init.source:
        raise ConfigError(
            f"config.init.checkpoint={init.checkpoint!r} is of the run that config.init.source "
            f"names, and it names none"
        )
