"""Keys of the run as a whole."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import Key, at_least
from mgnet_jax.data.info import Info

KEYS = {
    "name": Key(
        "",
        "of the run; its files go to runs/<name> unless --workdir is given",
        lambda v: not set(v) & set("/\\") and not v.startswith("."),
        "a name without / or \\ that does not start with a dot",
    ),
    "seed": at_least(0, 0, "of the initial weights, the order of the images, and augmentation"),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """These keys go with any others."""
