"""The shards of a prepared set: what each is to hold, and how one is written, if at all whole."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import tfds
from mgnet_jax.data.photographs.codec import canonical

SPLITS = ("train", "validation")
_OF_ONE_FILE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ELOOP)


class Source(Protocol):
    """Photographs as they were published; can be pickled for a worker."""

    @property
    def names(self) -> Sequence[str]:
        """Of the files, from the folder or archive on."""

    @property
    def labels(self) -> np.ndarray:
        """int32 (N,), from 0."""

    def __len__(self) -> int:
        """Returns their number, N."""

    def raw(self, index: int) -> bytes:
        """Returns the content of a file, or raises DataError."""

    def name(self, index: int) -> str:
        """Returns what to call a photograph when speaking to people."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a set is to be made of.

    Attributes:
      name: of the set.
      class_names: in label order.
      shard_size: how many photographs of the source a shard has; the last of a split has the rest.
      test_share: that the source was listed with.
      counts: how many photographs each split has in the source.
      digests: of the names and labels of the photographs of each shard, by split.
    """

    name: str
    class_names: tuple[str, ...]
    shard_size: int
    test_share: float
    counts: dict[str, int]
    digests: dict[str, list[str]]

    def shards(self) -> "list[Shard]":
        """All shards, in order."""
        found = []
        for split, count in self.counts.items():
            starts = range(0, count, self.shard_size)
            for i, start in enumerate(starts):
                file = tfds.shard_file(self.name, split, i, len(starts))
                found.append(Shard(split, file, start, min(start + self.shard_size, count)))
        return found

    def differs(self, old: "Plan") -> str | None:
        """What to tell people of the differences to an older plan; None if there are none."""
        if self == old or dataclasses.replace(self, test_share=old.test_share) == old:
            return None
        if self.test_share != old.test_share:
            return f"the share of the test split was {old.test_share}, now {self.test_share}"
        if self.shard_size != old.shard_size:
            return f"a shard had {old.shard_size} photographs, now {self.shard_size}"
        if self.class_names != old.class_names:
            pairs = itertools.zip_longest(old.class_names, self.class_names, fillvalue="none")
            was, now = next(pair for pair in pairs if pair[0] != pair[1])
            counts = f"{len(old.class_names)} classes, now {len(self.class_names)}"
            return f"there were {counts}; the first that differs was {was}, now {now}"
        for split, count in self.counts.items():
            if count != old.counts[split]:
                return f"{split} had {old.counts[split]:,} photographs, now {count:,}"
        for split, digests in self.digests.items():
            for i, digest in enumerate(digests):
                if digest != old.digests[split][i]:
                    first = i * self.shard_size
                    last = min(first + self.shard_size, self.counts[split]) - 1
                    where = f"the photographs {first:,} to {last:,} of {split}"
                    return f"among {where}, one had another name or class"
        return f"the set was named {old.name}, now {self.name}"


def make_plan(
    sources: dict[str, Source],
    class_names: Sequence[str],
    name: str,
    shard_size: int,
    test_share: float,
) -> Plan:
    """Plans a set of all photographs of its sources, by split."""
    counts = {split: len(source) for split, source in sources.items()}
    plan = Plan(name, tuple(class_names), shard_size, test_share, counts, {s: [] for s in sources})
    for shard in plan.shards():
        source, hashed = sources[shard.split], hashlib.sha256()
        for i in shard.indices:
            hashed.update(b"%s\0%d\0" % (os.fsencode(source.names[i]), source.labels[i]))
        plan.digests[shard.split].append(hashed.hexdigest())
    return plan


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to write: the photographs `start` to `stop` - 1 of a split of the source."""

    split: str
    file: str
    start: int
    stop: int

    @property
    def indices(self) -> range:
        """Of the photographs."""
        return range(self.start, self.stop)


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of a shard.

    Attributes:
      file: its name.
      images: how many photographs it holds.
      records: the size of their records in bytes.
      size: of the file, in bytes.
      sha256: of the file; empty if it was not written.
      mended: (index in the split of the source, what was mended).
      unreadable: (index in the split of the source, why it cannot be read).
    """

    file: str
    images: int
    records: int
    size: int
    sha256: str
    mended: list[tuple[int, str]]
    unreadable: list[tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class ShardWork:
    """Writes shards in a folder.

    Attributes:
      folder: where.
      sources: by split.
      class_names: in label order.
      skip: whether a shard is written without what cannot be read, or else not at all.
    """

    folder: Path
    sources: dict[str, Source]
    class_names: tuple[str, ...]
    skip: bool

    def __call__(self, shard: Shard, tick: Callable[[], None]) -> Written:
        """Writes a shard.

        Args:
          shard: what it is to hold.
          tick: called for each photograph.

        Raises:
          DataError: the file cannot be written, or the source is not what it was.
        """
        source, mended, unreadable = self.sources[shard.split], [], []
        path = self.folder / shard.file
        try:
            with whole(path) as new:
                writer = tfds.ShardWriter(new, self.class_names)
                for i in shard.indices:
                    jpeg, text = _photograph(source, i)
                    if jpeg is None:
                        unreadable.append((i, text))
                    elif text:
                        mended.append((i, text))
                    if jpeg is not None and (self.skip or not unreadable):
                        writer.write(jpeg, int(source.labels[i]), os.fsencode(source.names[i]))
                    tick()
                writer.close()
                if unreadable and not self.skip:
                    raise _NotWritten
                size, digest = new.stat().st_size, sha256(new)
        except _NotWritten:
            return Written(shard.file, 0, 0, 0, "", mended, unreadable)
        records = writer.images, writer.bytes
        return Written(shard.file, *records, size, digest, mended, unreadable)


class _NotWritten(Exception):
    """A shard is not to be written."""


def _photograph(source: Source, index: int) -> tuple[bytes | None, str]:
    """Returns (JPEG, what was mended), or (None, why it cannot be read).

    Raises:
      DataError: the source as a whole is not what it was.
    """
    try:
        raw = source.raw(index)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, OSError):
            if cause.errno in _OF_ONE_FILE:
                return None, cause.strerror or str(cause)
            if cause.errno == errno.ENOENT and os.path.islink(source.name(index)):
                return None, "a link to a file that is not there"
        raise DataError(f"{error} (the source changed, or went away, while it was read)") from error
    try:
        return canonical(raw, whole=True)
    except MemoryError:
        raise
    except DataError as error:
        return None, " ".join(str(error).split())
    except Exception as error:  # a library's, about a file that nobody has seen before
        return None, " ".join(f"{type(error).__name__}: {error}".split())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a file to write that takes the place of `path` at the end, if nothing was raised.

    So that at any moment, also after a loss of power, the old or the new one is there, whole.

    Raises:
      DataError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with written(path):
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.replace(path)
            sync_folder(path.parent)
        finally:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Makes an error of the system one for people, who are told what cannot be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; the shards that are whole are "
            "kept, and the same command goes on from them"
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder outlast a loss of power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
