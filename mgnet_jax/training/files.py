"""Files that are whole at any moment, and what is put aside instead of removed."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mgnet_jax.training.progress import say

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


class WriteError(RuntimeError):
    """A folder cannot be written; the message says why, and what to do."""

    def __init__(self, folder: Path, error: OSError):
        self.exit_code = 2 if error.errno in FORBIDDEN else 1
        what = "make room" if error.errno in FULL else "see to it that it can be written"
        other = ", or give another --workdir" if error.errno in FORBIDDEN else ""
        super().__init__(
            f"{folder} cannot be written: {error}. Nothing in it is lost; {what}{other}, and the "
            f"same command goes on"
        )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes an OSError inside a `WriteError` of this folder."""
    try:
        yield
    except OSError as error:
        raise WriteError(folder, error) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file such that at any moment the old or the new one is there, whole."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno and not error.filename:  # as of a write
            error.filename = str(path)
        with contextlib.suppress(OSError):
            new.unlink()  # where there is no room, a part of it takes some
        raise


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole, in a folder that is made if missing; WriteError if it cannot."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Lets the content of a file, or the names in a folder, outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError if a folder, made if it is gone, has fewer free bytes than needed."""
    if not folder.exists():
        folder.mkdir()
        say(f"{folder} was removed with all that was in it; it is made again")
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
