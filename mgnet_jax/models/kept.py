"""Where things that take time to find out or to make are kept for a user's next time."""

import os
import tempfile
from pathlib import Path


def folder(name: str, variable: str) -> Path:
    """~/.cache/mgnet_jax/name, or what a variable of the environment says in its place."""
    if given := os.environ.get(variable):
        return Path(given)
    try:
        return Path.home() / ".cache" / "mgnet_jax" / name
    except RuntimeError:  # this user has no home folder
        return Path(tempfile.gettempdir(), f"mgnet_jax-{name}")
