"""Sets that tensorflow-datasets or --mode=prepare prepared: found, and read one image at a time.

Those that --mode=prepare made have the labels in files of their own as well, so that nobody has to
read every record to know them.
"""

import re
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgnet_jax.data.info import DataError, Listing
from mgnet_jax.data.photographs import tfds
from mgnet_jax.data.photographs.codec import canonical
from mgnet_jax.data.photographs.tfds import INFO_FILE

TESTS = ("validation", "test")  # names of the split to score on, in order of preference
_AGAIN = (
    "run the --mode=prepare that made it again, which rewrites only what is damaged; or, if "
    "another program made it, copy or prepare it again"
)


def find(root: Path, names: Sequence[str]) -> Path | None:
    """Finds a prepared set: the folder of its newest version, or None.

    Args:
      root: that folder itself, the one above it, or the one above that.
      names: of the sets to prefer in the last case; without these, the only one there.

    Raises:
      DataError: there are several sets, and none of the `names`.
    """
    if named := find_named(root, names):
        return named
    below = sorted(root.iterdir()) if root.is_dir() else []
    found = [versions[-1] for folder in below if (versions := _versions(folder))]
    if len(found) > 1:
        several = ", ".join(str(folder) for folder in found)
        raise DataError(f"{root} holds {len(found)} prepared sets: name one of {several}")
    return found[0] if found else None


def find_named(root: Path, names: Sequence[str]) -> Path | None:
    """Finds a prepared set as `find` does, but none with another name in the folder of sets."""
    if (root / INFO_FILE).is_file():
        return root
    versions = [versions for f in (root, *(root / n for n in names)) if (versions := _versions(f))]
    return versions[0][-1] if versions else None


def _versions(folder: Path) -> list[Path]:
    """Returns the folders of a set's versions, the newest last."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    found = [p for p in found if (p / INFO_FILE).is_file()]
    return sorted(found, key=lambda path: [int(number) for number in path.name.split(".")])


def read_listing(folder: Path, classes: Sequence[str] = ()) -> Listing:
    """Lists the photographs of a prepared set: its splits train, and validation or else test.

    Args:
      folder: of a version, as `find` gives it.
      classes: the names of the classes, if they are known: then the training photographs need not
        be there.

    Raises:
      DataError: it is no whole set of photographs with labels.
    """
    try:
        builder = tfds.open_set(folder, f"Name another folder, or {_AGAIN}")
        names = tuple(tfds.class_names(builder))
        test = next((split for split in TESTS if split in builder.info.splits), TESTS[0])
        found = {split: tfds.shards(builder, split) for split in ("train", test)}
    except DataError:
        raise
    except Exception as error:
        text = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{folder} is no whole set of photographs: {text}; {_AGAIN}") from error
    train = None
    if not (classes and _missing(folder, found["train"])):
        train = _records(folder, "train", found["train"], names)
    return Listing(names, train, _records(folder, test, found[test], names))


def _missing(folder: Path, shards: Iterable[str]) -> list[str]:
    """Returns the names of the shards that are not there."""
    return [name for name in shards if not (folder / name).is_file()]


def _records(
    folder: Path, split: str, shards: Mapping[str, int], names: Sequence[str]
) -> "Records":
    """Lists a split, given its shards with their lengths, and the names of the classes."""
    if missing := _missing(folder, shards):
        raise DataError(f"{folder} lacks {len(missing)} shards, first {missing[0]}; {_AGAIN}")
    sidecar = folder / labels_file(split)
    labels, count = None, sum(shards.values())
    if sidecar.is_file():
        try:
            labels = np.load(sidecar)
        except (ValueError, EOFError) as error:
            raise DataError(f"{sidecar} is damaged: {error}; {_AGAIN}") from error
        if labels.shape != (count,) or labels.dtype != np.int32:
            found = f"{labels.dtype} {labels.shape}"
            raise DataError(f"{sidecar}: expected {count} labels, found {found}; {_AGAIN}")
        if count and not 0 <= labels.min() <= labels.max() < len(names):
            raise DataError(
                f"{sidecar} has labels from {labels.min()} to {labels.max()}, and the set names "
                f"{len(names)} classes; {_AGAIN}"
            )
    return Records([folder / name for name in shards], list(shards.values()), labels)


class Records:
    """The photographs of a split of a prepared set; implements `Photographs`.

    Threads may share it; processes get a copy that opens the shards anew. About half as many shards
    as files may be open stay open.

    Attributes:
      labels: int32 (N,), or None.
    """

    def __init__(
        self, files: Sequence[Path], lengths: Sequence[int], labels: np.ndarray | None
    ) -> None:
        self.labels = labels
        self._files, self._lengths = list(files), list(lengths)
        self._ends = np.cumsum(self._lengths)
        self._start()

    def _start(self) -> None:
        self._readers: OrderedDict[int, Any] = OrderedDict()  # by shard, least recently used first
        self._lock = threading.Lock()
        self._most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, 1)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_readers", "_lock")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def __len__(self) -> int:
        """Returns the number of photographs, N."""
        return sum(self._lengths)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """Returns an upright JPEG of 8 bits and 1 or 3 components, and its label."""
        feature = self._read(index)
        try:
            jpeg, _ = canonical(feature["image"].bytes_list.value[0])
            return jpeg, feature["label"].int64_list.value[0]
        except (DataError, IndexError) as error:
            raise DataError(f"{self._where(index)}: {error}; {_AGAIN}") from error

    def name(self, index: int) -> str:
        """Returns the name of the file that a photograph was, or else the place of its record."""
        try:
            return self._read(index)["file_name"].bytes_list.value[0].decode(errors="replace")
        except (DataError, IndexError):
            return self._where(index)

    def traits(self) -> Iterator[bytes]:
        """Gives the name of every shard, its records and bytes, and the labels."""
        for file, length in zip(self._files, self._lengths, strict=True):
            yield f"{file.name} {length} {file.stat().st_size}\n".encode()
        if self.labels is not None:
            yield self.labels.tobytes()

    def _place(self, index: int) -> tuple[int, int]:
        """Returns the shard of a record, and its place there."""
        index = range(len(self))[index]
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, index - int(self._ends[shard]) + self._lengths[shard]

    def _where(self, index: int) -> str:
        shard, place = self._place(index)
        return f"{self._files[shard]}, record {place}"

    def _read(self, index: int) -> Any:
        """Reads the features of a record, by name."""
        shard, place = self._place(index)
        try:
            return tfds.parse(self._reader(shard).read([place])[0])
        except DataError:
            raise
        except Exception as error:
            text = str(error).partition(", chunk at")[0]
            raise DataError(f"{self._where(index)} is damaged: {text}; {_AGAIN}") from error

    def _reader(self, shard: int) -> Any:
        """Returns an open shard; what others still read stays open until they are done."""
        with self._lock:
            if (reader := self._readers.get(shard)) is None:
                file, length = self._files[shard], self._lengths[shard]
                reader = tfds.open_shard(file)
                if (count := reader.num_records()) != length:
                    raise DataError(f"{file}: expected {length} records, found {count}; {_AGAIN}")
                self._readers[shard] = reader
                if len(self._readers) > self._most:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(shard)
            return reader


def labels_file(split: str) -> str:
    """The name of the file with the labels of a split, which only our sets have."""
    return f"labels-{split}.npy"
