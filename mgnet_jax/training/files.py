"""Files that are whole at any moment, and what is put aside instead of removed."""

import errno
import os
import shutil
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file such that at any moment the old or the new one is there, whole."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Lets the names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError if the file system of a folder has fewer free bytes than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        free_mib, needed_mib = free / 2**20, needed / 2**20
        text = f"{needed_mib:,.1f} MiB are needed, and {free_mib:,.1f} MiB are left"
        raise OSError(errno.ENOSPC, text, str(folder))


def put_aside(path: Path, folder: Path) -> Path:
    """Moves a file or a folder that is damaged into a folder, and gives its new place."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name, *(f"{path.name}.{i}" for i in range(1, 10_000))]
    place = next(folder / name for name in names if not (folder / name).exists())
    path.rename(place)
    return place
