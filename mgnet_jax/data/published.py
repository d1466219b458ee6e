"""The files in which MNIST and CIFAR are published: where they lie, and how they are read.

`find` looks for the files of a set; the readers turn one into NumPy arrays, images uint8
(N, H, W, C) and labels integer (N,), check what its format says of itself, and raise `DataError`
for anything else. The formats are the idx format of Y. LeCun, C. Cortes and C. Burges, and the
binary and the Python version of A. Krizhevsky's CIFAR. Any file may be gzipped.
"""

import codecs
import dataclasses
import functools
import gzip
import io
import math
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mgnet_jax.data.info import DataError

_PIXELS = 3 * 32 * 32  # of a CIFAR image: all red, then all green, then all blue


def read_bytes(path: Path) -> bytes:
    """Returns the content of a file, unpacked if it is gzipped."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a whole, readable file, found: {error}") from error


def read_idx(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads MNIST's pair of idx files: images (N, H, W, 1) and labels (N,), both uint8."""
    return _idx_array(images, ndim=3)[..., np.newaxis], _idx_array(labels, ndim=1)


def _idx_array(path: Path, ndim: int) -> np.ndarray:
    """Returns the uint8 array of an idx file: magic number, sizes as big-endian int32, bytes."""
    raw = read_bytes(path)
    start, magic = 4 + 4 * ndim, bytes((0, 0, 8, ndim))
    if raw[:4] != magic:
        raise DataError(
            f"{path}: expected the magic number {magic.hex(' ')} of an idx file of bytes with "
            f"{ndim} axes, found {raw[:4].hex(' ') or 'an empty file'}"
        )
    if len(raw) < start:
        raise DataError(f"{path}: expected a header of {start} bytes, found {len(raw)} in all")
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    size = start + math.prod(shape)
    if len(raw) != size:
        raise DataError(f"{path}: expected {size} bytes for shape {shape}, found {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_cifar_binary(path: Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads records of labels and pixels, one byte each.

    Args:
      path: a file of CIFAR's binary version.
      label_bytes: how many labels an image has; the last is returned (CIFAR-100: coarse, fine).

    Returns:
      Images, uint8 (N, 32, 32, 3), and labels, uint8 (N,).
    """
    raw = np.frombuffer(read_bytes(path), np.uint8)
    record = label_bytes + _PIXELS
    if raw.size % record:
        raise DataError(f"{path}: expected records of {record} bytes, found {raw.size} bytes")
    rows = raw.reshape(-1, record)
    return _images(rows[:, label_bytes:]), rows[:, label_bytes - 1]


def read_cifar_python(path: Path, label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Reads a pickled dictionary of pixels, uint8 (N, 3072), and a list of labels.

    Returns:
      Images, uint8 (N, 32, 32, 3), and labels, Python integers (N,).
    """
    rows, labels = _unpickle(path, b"data", label_key)
    is_array = isinstance(rows, np.ndarray)
    if not (is_array and rows.dtype == np.uint8 and rows.shape[1:] == (_PIXELS,)):
        found = f"{rows.dtype} {rows.shape}" if is_array else type(rows).__name__
        raise DataError(f"{path}: expected data of uint8 (N, {_PIXELS}), found {found}")
    if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
        raise DataError(f"{path}: expected {label_key.decode()} to be a list of whole numbers")
    return _images(rows), np.array(labels, object)


def _images(rows: np.ndarray) -> np.ndarray:
    """Turns planar rows, (N, 3072), into images, (N, 32, 32, 3)."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def read_text_names(path: Path) -> list[str]:
    """Reads class names, one a line."""
    return read_bytes(path).decode(errors="replace").split()


def read_python_names(path: Path, key: bytes) -> list[str]:
    """Reads the list of class names in a pickled dictionary."""
    (names,) = _unpickle(path, key)
    if not (isinstance(names, list) and all(isinstance(name, bytes) for name in names)):
        raise DataError(f"{path}: expected {key.decode()} to be a list of names")
    return [name.decode(errors="replace") for name in names]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numbers, text, containers and NumPy arrays, and refuses all else."""

    _reconstruct = np.empty(0).__reduce__()[0]
    _frombuffer = np.empty(0).__reduce_ex__(5)[0]
    _allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy.core.numeric", "_frombuffer"): _frombuffer,
        ("numpy._core.numeric", "_frombuffer"): _frombuffer,
        ("_codecs", "encode"): codecs.encode,  # Python 3 writes bytes so for Python 2
    }

    def find_class(self, module: str, name: str) -> Any:
        """Returns an object of those allowed, without an import."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"the object {module}.{name}, which is refused")
        return self._allowed[module, name]


def _unpickle(path: Path, *keys: bytes) -> list[Any]:
    """Returns the entries `keys` of the dictionary that Python 2 pickled, its text left as bytes.

    A pickle may ask for any function to be called, and may fail to load with any exception: so
    nothing is called but what builds arrays, and every exception becomes a `DataError`.
    """
    raw = read_bytes(path)
    try:
        content = _ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:
        raise DataError(
            f"{path}: expected a pickle of arrays, lists and text, found: {error}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dictionary, found {type(content).__name__}")
    for key in keys:
        if key not in content:
            raise DataError(f"{path}: expected an entry {key.decode()}, found {list(content)}")
    return [content[key] for key in keys]


@dataclasses.dataclass(frozen=True)
class Form:
    """One published form of a set: its files, where they lie, and how to read them.

    `train` and `test` group the files such that `read(*group)` gives images and labels; `names`
    is the file of class names, empty where the classes are the numerals.
    """

    folders: tuple[str, ...]
    train: tuple[tuple[str, ...], ...]
    test: tuple[tuple[str, ...], ...]
    read: Callable[..., tuple[np.ndarray, np.ndarray]]
    names: str = ""
    read_names: Callable[[Path], Sequence[str]] = read_text_names

    def groups(self, split: str) -> tuple[tuple[str, ...], ...]:
        """Returns the groups of files of "train" or "test"."""
        return self.train if split == "train" else self.test

    def files(self, splits: Sequence[str]) -> list[str]:
        """Returns the names of the files of splits; those of "train" include the class names."""
        groups = [group for split in splits for group in self.groups(split)]
        if self.names and "train" in splits:
            groups.append((self.names,))
        return [file for group in groups for file in group]


_MNIST = Form(
    folders=("mnist", "MNIST/raw"),
    train=(("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),),
    test=(("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),),
    read=read_idx,
)
_CIFAR10_BINARY = Form(
    folders=("cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"),
    train=tuple((f"data_batch_{number}.bin",) for number in range(1, 6)),
    test=(("test_batch.bin",),),
    read=functools.partial(read_cifar_binary, label_bytes=1),
    names="batches.meta.txt",
)
_CIFAR10_PYTHON = Form(
    folders=("cifar-10-batches-py", "cifar10", "cifar10/cifar-10-batches-py"),
    train=tuple((f"data_batch_{number}",) for number in range(1, 6)),
    test=(("test_batch",),),
    read=functools.partial(read_cifar_python, label_key=b"labels"),
    names="batches.meta",
    read_names=functools.partial(read_python_names, key=b"label_names"),
)
_CIFAR100_BINARY = Form(
    folders=("cifar-100-binary", "cifar100", "cifar100/cifar-100-binary"),
    train=(("train.bin",),),
    test=(("test.bin",),),
    read=functools.partial(read_cifar_binary, label_bytes=2),
    names="fine_label_names.txt",
)
_CIFAR100_PYTHON = Form(
    folders=("cifar-100-python", "cifar100", "cifar100/cifar-100-python"),
    train=(("train",),),
    test=(("test",),),
    read=functools.partial(read_cifar_python, label_key=b"fine_labels"),
    names="meta",
    read_names=functools.partial(read_python_names, key=b"fine_label_names"),
)
FORMS = {
    "mnist": (_MNIST,),
    "cifar10": (_CIFAR10_BINARY, _CIFAR10_PYTHON),
    "cifar100": (_CIFAR100_BINARY, _CIFAR100_PYTHON),
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
_URLS = {
    "mnist": (
        "https://yann.lecun.com/exdb/mnist, a copy at "
        "https://storage.googleapis.com/cvdf-datasets/mnist/"
    ),
    "cifar10": _CIFAR_URL,
    "cifar100": _CIFAR_URL,
}
WHERE = "--config.data.dir=FOLDER or the environment variable MGNET_DATA"


def find(name: str, root: Path | None, splits: Sequence[str]) -> tuple[Form, dict[str, Path]]:
    """Finds the files of a set in `root` and in the folders where they are customary.

    Args:
      name: "mnist", "cifar10" or "cifar100".
      root: the folder to begin with; None if no folder is known, for the error to explain.
      splits: what is to be read of it, "train" and "test".

    Returns:
      The first form of the set that is complete, and the path of each of the files to read.

    Raises:
      DataError: if no form is complete; it names what is missing, the folders, and the remedy.
    """
    remedy = f"Say where the files are with {WHERE}; they are published at {_URLS[name]}"
    wanted = " or ".join(", ".join(form.files(splits)) for form in FORMS[name])
    if root is None:
        raise DataError(f"{name}: no folder is given to hold {wanted}. {remedy}")
    if not os.path.isdir(root):
        raise DataError(f"{name}: {root} is not a folder; it is to hold {wanted}. {remedy}")
    attempts = []
    for form in FORMS[name]:
        for folder in (root, *(root / below for below in form.folders)):
            spelled = {file: _spelled(folder, file) for file in form.files(splits)}
            paths = {file: path for file, path in spelled.items() if path}
            missing = [file for file in spelled if file not in paths]
            attempts.append((form, folder, paths, missing))
    form, folder, paths, missing = min(attempts, key=lambda tried: len(tried[3]))
    if not missing:
        return form, paths
    if paths:
        raise DataError(f"{name}: {', '.join(missing)} missing from {folder}. {remedy}")
    folders = ", ".join(dict.fromkeys(str(folder) for _, folder, _, _ in attempts))
    raise DataError(f"{name}: no files {wanted} in any of the folders {folders}. {remedy}")


def _spelled(folder: Path, file: str) -> Path | None:
    """Returns the path of a file whose name may have a dot before idx, or end in .gz."""
    for stem in (file, file.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if os.path.isfile(path):
                return path
    return None
