"""Files that are whole at any moment."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file such that at any moment the old or the new one is there, whole."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
