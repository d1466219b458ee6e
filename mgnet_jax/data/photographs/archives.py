"""The archives in which ILSVRC2012 is published, read where they are, without unpacking.

ILSVRC2012_img_train.tar holds an archive for each class, named by its WordNet id (WNID), and
ILSVRC2012_img_val.tar the photographs of the test split, whose classes ILSVRC2012_devkit_t12.tar.gz
knows: O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge" (2015).
"""

import dataclasses
import io
import os
import re
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgnet_jax.data.info import DataError, Listing
from mgnet_jax.data.photographs import folders

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"

_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"
_WHERE = "they are published at https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
_AGAIN = "download it again"
_END = bytes(tarfile.BLOCKSIZE)


@dataclasses.dataclass(frozen=True)
class Members(folders.Files):
    """The photographs of a split in an archive; implements `Photographs`.

    `root` is the archive, and a photograph its bytes from `offsets` on, `sizes` of them, both int64
    (N,). Each is read by a call of the system that moves no position, in a file opened for it: so
    threads and forked processes do not meet.
    """

    offsets: np.ndarray
    sizes: np.ndarray

    def raw(self, index: int) -> bytes:
        """Returns the content of a member.

        Raises:
          DataError: it cannot be read.
        """
        size = int(self.sizes[index])
        try:
            file = os.open(self.root, os.O_RDONLY)
            try:
                content = os.pread(file, size, int(self.offsets[index]))
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(f"{self.name(index)}: {error.strerror}") from error
        if len(content) != size:
            raise DataError(f"{self.root} was cut since it was listed: {_AGAIN}")
        return content


def is_archives(folder: Path) -> bool:
    """Whether a folder holds ILSVRC2012 as archives, be it in part."""
    unpacked = (folder / "train").is_dir()
    return (folder / TRAIN).is_file() or ((folder / VAL).is_file() and not unpacked)


def list_source(root: Path, test_share: float, classes: Sequence[str] = ()) -> Listing:
    """Lists the photographs in a folder: archives of ILSVRC2012 if it holds any, else folders.

    Args:
      root: the folder.
      test_share: see `folders.list_folders`.
      classes: the names of the classes, if they are known: then the training photographs need not
        be there.

    Raises:
      DataError: as `list_archives` and `folders.list_folders` say.
    """
    if is_archives(root):
        return list_archives(root, classes)
    return folders.list_folders(root, test_share, classes)


def list_archives(folder: Path, classes: Sequence[str] = ()) -> Listing:
    """Lists the photographs of ILSVRC2012 in its archives, which takes a read for each.

    The classes are the WordNet ids in code-point order, as in folders. The test split is
    ILSVRC2012_img_val.tar with the devkit; or else, unpacked, the folder val or validation with a
    folder for each WordNet id.

    Raises:
      DataError: an archive is missing, cut, or holds something else.
    """
    train = None
    if (folder / TRAIN).is_file():
        classes, train = _train(folder / TRAIN)
    elif not classes:
        raise DataError(f"{folder} lacks {TRAIN} beside {VAL}; {_WHERE}")
    if (folder / VAL).is_file():
        if not (folder / DEVKIT).is_file():
            raise DataError(
                f"{folder} lacks {DEVKIT}, which tells the classes of the photographs in {VAL}; "
                f"{_WHERE}"
            )
        return Listing(tuple(classes), train, _val(folder / VAL, folder / DEVKIT, classes))
    for name in ("val", "validation"):
        if (folder / name).is_dir():
            return Listing(tuple(classes), train, folders.list_tests(folder / name, list(classes)))
    raise DataError(
        f"{folder} has no test split beside {TRAIN}: neither {VAL} with {DEVKIT}, nor a folder val "
        f"with a folder for each WordNet id; {_WHERE}"
    )


class _Part(io.RawIOBase):
    """A part of a file as a file of its own, for reading."""

    def __init__(self, file: int, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """Returns true."""
        return True

    def seekable(self) -> bool:
        """Returns true."""
        return True

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, and returns it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer from the position on; returns how many bytes there were."""
        count = max(min(len(buffer), self._size - self._at), 0)
        content = os.pread(self._file, count, self._start + self._at)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _members(file: int, start: int, size: int, place: str) -> list[tuple[str, int, int]]:
    """Lists the files in an archive that is a part of a file.

    Args:
      file: the descriptor of the file.
      start: where the archive begins in it, in bytes.
      size: of the archive, in bytes.
      place: what to call the archive.

    Returns:
      The name of each, without folders, where it begins in the whole file, and its size; by name.
    """
    found = []
    try:
        with tarfile.open(fileobj=_Part(file, start, size), mode="r:") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if member.isreg() and not name.startswith("."):
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError("unexpected end of data")
                    found.append((name, start + member.offset_data, member.size))
            if start == 0 and os.pread(file, tarfile.BLOCKSIZE, archive.offset) != _END:
                raise tarfile.ReadError("no end mark")  # a file cut between two members
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{place}: expected a whole archive, found: {error}; it has {size} bytes: {_AGAIN}"
        ) from error
    return sorted(found)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _split(
    path: Path, found: Sequence[tuple[str, int, int]], labels: Sequence[int] | np.ndarray
) -> Members:
    """Returns the members found in an archive as a split."""
    names = [name for name, _, _ in found]
    places = np.array([place for _, *place in found], np.int64).reshape(-1, 2)
    offsets, sizes = np.ascontiguousarray(places.T)
    return Members(str(path), names, np.array(labels, np.int32), offsets, sizes)


def _train(path: Path) -> tuple[list[str], Members]:
    """Lists the archive of archives: the WordNet ids, and the photographs by class and name."""
    file = _open(path)
    try:
        parts = _members(file, 0, os.fstat(file).st_size, str(path))
        strange = [name for name, _, _ in parts if not re.fullmatch(r"n\d{8}\.tar", name)]
        if strange or len(parts) < 2:
            found = strange[0] if strange else f"{len(parts)} of them"
            raise DataError(
                f"{path}: expected an archive for each class, named as n01440764.tar, found {found}"
            )
        every, labels = [], []
        for label, (name, start, size) in enumerate(parts):
            inside = _members(file, start, size, f"{path}/{name}")
            if not inside:
                raise DataError(f"{path}/{name}: expected photographs, found none: {_AGAIN}")
            every += [(f"{name}/{member}", at, count) for member, at, count in inside]
            labels += [label] * len(inside)
    finally:
        os.close(file)
    return [name.removesuffix(".tar") for name, _, _ in parts], _split(path, every, labels)


def _val(path: Path, devkit: Path, classes: Sequence[str]) -> Members:
    """Lists the archive of the test split by name, which is the order of the ground truth."""
    file = _open(path)
    try:
        found = _members(file, 0, os.fstat(file).st_size, str(path))
    finally:
        os.close(file)
    truth = _truth(devkit)
    for number, (name, _, _) in enumerate(found, 1):
        if not re.fullmatch(rf"ILSVRC2012_val_0*{number}\.\w+", name):
            raise DataError(
                f"{path}: expected ILSVRC2012_val_{number:08}.JPEG, found {name}: {_AGAIN}"
            )
    if len(found) != len(truth):
        raise DataError(
            f"{path}: expected {len(truth)} photographs, the count of labels in {devkit}, found "
            f"{len(found)}: {_AGAIN}"
        )
    label_of = {name: label for label, name in enumerate(classes)}
    strange = sorted(set(truth) - set(classes))
    if strange:
        raise DataError(
            f"{path} has photographs of the class {strange[0]}, of which {TRAIN} has none "
            f"({len(strange)} such classes): download that again"
        )
    return _split(path, found, [label_of[wnid] for wnid in truth])


def _truth(devkit: Path) -> list[str]:
    """Reads the WordNet id of each photograph of the test split, by the number in its name."""
    import scipy.io  # here, since only this needs it

    texts = {}
    try:
        with tarfile.open(devkit, "r:gz") as archive:
            for member in archive:
                for wanted in (_TRUTH, _META):
                    content = archive.extractfile(member) if member.name.endswith(wanted) else None
                    if content is not None:
                        texts[wanted] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{devkit}: expected a whole archive, found: {error}: {_AGAIN}") from error
    for wanted in (_TRUTH, _META):
        if wanted not in texts:
            raise DataError(f"{devkit}: expected a file {wanted}, found none: {_AGAIN}")
    try:
        synsets = scipy.io.loadmat(io.BytesIO(texts[_META]), squeeze_me=True)["synsets"]
        pairs = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        wnid_of = {int(number): str(wnid) for number, wnid in pairs}
        return [wnid_of[int(number)] for number in texts[_TRUTH].split()]
    except Exception as error:  # a damaged file of MATLAB's leads to anything
        raise DataError(
            f"{devkit}: expected the numbers of classes in {_TRUTH} and their WordNet ids in "
            f"{_META}, found {type(error).__name__}: {error}"
        ) from error
