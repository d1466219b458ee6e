"""Photographs in folders, one for each class."""

import dataclasses
import errno
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mgnet_jax.data.info import DataError, Listing
from mgnet_jax.data.photographs.codec import canonical
from mgnet_jax.data.splits import choose

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
"""Of the files taken for photographs, in capitals or not; more suffixes do not matter."""

_TESTS = ("val", "validation", "test")
_LAYOUT = (
    "expected the folders train/CLASS and one of val/CLASS, validation/CLASS or test/CLASS, or "
    "CLASS alone, with the photographs of a class in its folder"
)
REMEDY = "mend or remove it, or leave it out with --mode=prepare --on_bad=skip"


@dataclasses.dataclass(frozen=True)
class Files:
    """The photographs of a split as files; implements `Photographs`.

    Attributes:
      root: the folder, or the archive, that the names begin in.
      names: the path of each file below `root`.
      labels: int32 (N,).
    """

    root: str
    names: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        """Returns the number of photographs, N."""
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Returns an upright JPEG of 8 bits and 1 or 3 components, and its label."""
        raw = self.raw(index)
        try:
            return canonical(raw)[0], int(self.labels[index])
        except DataError as error:
            raise DataError(f"{self.name(index)}: {error}; {REMEDY}") from error

    def name(self, index: int) -> str:
        """Returns the path of a file."""
        return os.path.join(self.root, self.names[index])

    def traits(self) -> Iterator[bytes]:
        """Gives the name and label of every photograph: one may be mended while a run waits."""
        for name, label in zip(self.names, self.labels, strict=True):
            yield f"{label} {name}\n".encode(errors="surrogateescape")

    def raw(self, index: int) -> bytes:
        """Returns the content of a file.

        Raises:
          DataError: it cannot be read.
        """
        try:
            with open(self.name(index), "rb") as file:
                return file.read()
        except OSError as error:
            raise DataError(f"{self.name(index)}: {error.strerror}; {REMEDY}") from error


def list_folders(root: Path, test_share: float, classes: Sequence[str] = ()) -> Listing:
    """Lists the photographs below a folder, without opening one.

    The classes are the folders below root/train in code-point order, or those below `root` if it
    has no folder train. The photographs of a class are the files with one of `SUFFIXES` in its
    folder and in those below, by relative path; what is hidden (its name begins with a dot) is left
    out. The test split is root/val, root/validation or root/test, which may lack classes; without
    a folder train, `test_share` of the photographs of each class are chosen for it at random, the
    same for every run.

    Args:
      root: the folder.
      test_share: between 0 and 1, exclusive; not used if there is a test split.
      classes: their names, if they are known: then there may be no folder train beside the tests.

    Raises:
      DataError: the folder has another layout, a class has no photograph, or there is one class.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: {_LAYOUT}")
    if not (root / "train").is_dir():
        others = [name for name in _TESTS if (root / name).is_dir()]
        if others and classes:
            return Listing(tuple(classes), None, list_tests(root / others[0], list(classes)))
        if others:
            raise DataError(f"{root} has a folder {others[0]}, but no folder train: {_LAYOUT}")
        return _divided(root, test_share)
    tests = [name for name in _TESTS if _folders_in(root / name)]
    if len(tests) > 1:
        raise DataError(
            f"{root} has the folders {' and '.join(tests)}, one of which is to be the test split: "
            "give the others another name"
        )
    if not tests:
        raise DataError(
            f"{root} has a folder train, but no folder {', '.join(_TESTS)} with classes: {_LAYOUT}"
        )
    classes = _classes(root / "train")
    return Listing(
        tuple(classes),
        _listed(root / "train", classes, classes),
        _listed(root / tests[0], _classes(root / tests[0], least=1), classes),
    )


def list_tests(folder: Path, classes: list[str]) -> Files:
    """Lists the photographs of a test split whose classes are among `classes`."""
    return _listed(folder, _classes(folder, least=1), classes)


def _divided(root: Path, test_share: float) -> Listing:
    """Divides the photographs of a folder of classes into two splits."""
    if not 0 < test_share < 1:
        raise DataError(f"a share of {test_share} cannot be the test split: give one in (0, 1)")
    classes = _classes(root)
    every = _listed(root, classes, classes)
    count = round(test_share * len(every))
    if not 0 < count < len(every):
        raise DataError(
            f"{root}: {test_share} of {len(every)} photographs leave one split empty; give another "
            "share, or more photographs"
        )
    held = choose(every.labels, count, seed=0)
    train, test = (
        Files(every.root, [every.names[i] for i in np.flatnonzero(m)], every.labels[m])
        for m in (~held, held)
    )
    return Listing(tuple(classes), train, test)


def _classes(folder: Path, least: int = 2) -> list[str]:
    """Returns the names of the classes in a folder, at least `least`."""
    names = _folders_in(folder)
    if len(names) < least:
        found = f"only the folder {names[0]}" if names else "no folder"
        raise DataError(f"{folder} holds {found}, of at least {least} classes: {_LAYOUT}")
    for name in names:
        if name != name.strip() or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise DataError(
                f"{folder}: the class {name!a} has a space at an end of its name, a control "
                "character or bytes that are not UTF-8, which the list of classes of a set, a line "
                "for each, cannot hold: rename its folder"
            )
    return names


def _folders_in(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _no_folder(folder, error) from error


def _no_folder(folder: Path | str, error: OSError) -> DataError:
    """Says that a folder cannot be read; one that a link leads back to, by its shortest path."""
    if error.errno != errno.ELOOP:
        return DataError(f"{folder} cannot be read: {error.strerror}")
    return DataError(
        f"{os.path.realpath(folder)} cannot be read: {error.strerror}: a link in it leads back to "
        "itself, or to a folder that it is in: remove the link"
    )


def _listed(folder: Path, names: list[str], classes: list[str]) -> Files:
    """Lists the files of the classes `names`, which are to be among `classes`, in a folder."""
    strange = sorted(set(names) - set(classes))
    if strange:
        raise DataError(
            f"{folder} has the class {strange[0]}, which no photograph to train on has "
            f"({len(strange)} such of {len(names)} classes): name the folders alike"
        )
    label_of = {name: label for label, name in enumerate(classes)}
    paths: list[str] = []
    counts = []
    for name in names:
        below = sorted(_photographs(os.path.join(folder, name), name))
        if not below:
            raise DataError(
                f"{os.path.join(folder, name)} holds no photograph, a file that ends in "
                f"{', '.join(SUFFIXES)}: add some, or remove the folder"
            )
        paths += below
        counts.append(len(below))
    labels = np.repeat(np.array([label_of[name] for name in names], np.int32), counts)
    return Files(str(folder), paths, labels)


def _photographs(folder: str, prefix: str) -> Iterator[str]:
    """Yields the path, below the folder of the split, of every photograph in a folder of it.

    The entries of a folder say themselves what they are, so that no file costs a system call. A
    link that leads nowhere is a photograph that cannot be read; a pipe or a device is none.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{prefix}/{entry.name}"
                if entry.is_dir():
                    yield from _photographs(entry.path, path)
                elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                    yield path
    except OSError as error:
        raise _no_folder(folder, error) from error


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry of a folder is a file, or a link to one that may be missing."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
