"""A prepared set in the making: its folder, what of it is whole, and how it becomes one.

OUT/NAME/.VERSION.incomplete holds the plan, the shards that are whole and the log, a line for each
of these; at the end it becomes OUT/NAME/VERSION. So whatever ends a command, the next one goes on.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import tfds
from mgnet_jax.data.photographs.prepared import labels_file
from mgnet_jax.data.photographs.shards import (
    Plan,
    Source,
    Written,
    sha256,
    sync_folder,
    whole,
    written,
)

VERSION = "1.0.0"
PLAN, LOG, SUMS = "plan.json", "shards.jsonl", "SHA256SUMS"
UNREADABLE, MENDED = "unreadable.txt", "mended.txt"

Progress = Callable[[int, int], None]
"""Is told how many of how many are done."""


@dataclasses.dataclass(frozen=True)
class Making:
    """The folder of a set, OUT/NAME."""

    home: Path

    @property
    def done(self) -> Path:
        """The set, when it is whole."""
        return self.home / VERSION

    @property
    def work(self) -> Path:
        """The set, until then."""
        return self.home / f".{VERSION}.incomplete"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other commands off, until this one ends.

        Raises:
          DataError: one is at work.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{self.home} is being prepared by another command: wait for it or stop it, or "
                    "give another --out or --name"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield

    def begin(self, plan: Plan) -> bool:
        """Makes the folder to work in, or checks that what is there has the same plan.

        Returns:
          Whether the plan of a finished set was damaged: it was written anew, since this plan has
          the checksum that it had.

        Raises:
          DataError: it has another, or cannot be read.
        """
        if self.done.exists() and self.work.exists():
            raise DataError(f"there are both {self.done} and {self.work}: remove one of them")
        folder = self.done if self.done.exists() else self.work
        folder.mkdir(exist_ok=True)
        content = json.dumps(dataclasses.asdict(plan), indent=1).encode()
        if restored := _is_damaged(folder, content):
            _write(folder / PLAN, content)
        elif not (folder / PLAN).exists():
            if any(not path.name.endswith(".new") for path in folder.iterdir()):
                raise DataError(
                    f"{folder} has no {PLAN}, so that another program made it: give another --out "
                    "or --name"
                )
            _write(folder / PLAN, content)
        elif difference := plan.differs(read_plan(folder)):
            raise DataError(
                f"{folder} was begun with other photographs: {difference}. Put the source back as "
                f"it was, or give another --out or --name, or remove {folder} to begin anew"
            )
        return restored

    def damaged(self, threads: int, progress: Progress) -> dict[str, str]:
        """Checks the files of the set against their checksums: what is wrong with each that is."""
        expected = read_sums(self.done)
        shards = {shard.file for shard in read_plan(self.done).shards()}
        found = dict.fromkeys(sorted(shards - {*expected}), f"{SUMS} does not name it")
        return found | check(self.done, expected, threads, progress)

    def reopen(self, damaged: Iterable[str]) -> None:
        """Makes the set one in the making again, given the files that are damaged."""
        if LOG in damaged:
            (self.done / LOG).unlink()
        self.done.rename(self.work)

    def kept(self, plan: Plan, threads: int, progress: Progress) -> dict[str, Written]:
        """The shards that are whole, by file, which those are that the log tells the truth of."""
        for left in self.work.glob(".*.new"):
            left.unlink(missing_ok=True)
        files = {shard.file for shard in plan.shards()}
        logged = {file: w for file, w in read_log(self.work).items() if file in files}
        small = [f for f, w in logged.items() if size_of(self.work / f) != w.size]
        sums = {file: w.sha256 for file, w in logged.items() if file not in small}
        wrong = check(self.work, sums, threads, progress)
        kept = {file: logged[file] for file in sums if file not in wrong}
        write_log(self.work, kept.values())
        return kept

    def add(self, shard: Written) -> None:
        """Notes in the log that a shard is whole."""
        path = self.work / LOG
        with written(path), path.open("a") as file:
            file.write(_line(shard))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, plan: Plan, sources: Mapping[str, Source], all_: dict[str, Written]) -> None:
        """Makes whole shards a set.

        Args:
          plan: of the set.
          sources: by split.
          all_: what became of each shard, by file.

        Raises:
          DataError: a split has no photograph that can be read.
        """
        splits = {}
        for split, source in sources.items():
            ours = [all_[shard.file] for shard in plan.shards() if shard.split == split]
            missing = [i for w in ours for i, _ in w.unreadable]
            labels = np.delete(np.asarray(source.labels, np.int32), missing)
            if not len(labels):
                raise DataError(f"no photograph of the split {split} can be read")
            content = io.BytesIO()
            np.save(content, labels)
            _write(self.work / labels_file(split), content.getvalue())
            splits[split] = [w.images for w in ours], sum(w.records for w in ours)
        write_lists(self.work, plan, sources, all_.values())
        with written(self.work):
            tfds.write_metadata(self.work, plan.name, VERSION, plan.class_names, splits)
        write_log(self.work, [all_[shard.file] for shard in plan.shards()])
        sums = {name: w.sha256 for name, w in all_.items()}
        for path in sorted(self.work.iterdir()):
            if path.name not in sums and path.name != SUMS and path.is_file():
                sums[path.name] = sha256(path)
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        _write(self.work / SUMS, text.encode())
        self.work.rename(self.done)
        sync_folder(self.home)


def _is_damaged(folder: Path, content: bytes) -> bool:
    """Whether the plan in a folder has not its checksum, as `content`, the plan of now, has.

    Raises:
      DataError: the plan is damaged, and that of now is another.
    """
    path, expected = folder / PLAN, read_sums(folder).get(PLAN)
    found = path.read_bytes() if path.is_file() else b""
    if expected in (None, hashlib.sha256(found).hexdigest()) or found == content:
        return False
    if hashlib.sha256(content).hexdigest() == expected:
        return True
    raise DataError(
        f"{path} is damaged: it has not the checksum in {SUMS}. The source of now would make "
        "another plan, by its photographs, their classes or the flags: run the --mode=prepare that "
        "made the set, with the source as it was, which writes the plan anew; the rest of the set "
        "can be used without it"
    )


def check(
    folder: Path, sums: Mapping[str, str], threads: int, progress: Progress
) -> dict[str, str]:
    """Compares files with their SHA-256: what is wrong with each that does not have it."""

    def wrong(name: str) -> str:
        try:
            return "" if sha256(folder / name) == sums[name] else "it is not as it was written"
        except OSError as error:
            return error.strerror or str(error)

    found = {}
    with ThreadPoolExecutor(threads) as pool:
        for done, (name, fault) in enumerate(zip(sums, pool.map(wrong, sums), strict=True), 1):
            progress(done, len(sums))
            if fault:
                found[name] = fault
    return found


def size_of(path: Path) -> int:
    """The size of a file in bytes, -1 if it is not there."""
    return path.stat().st_size if path.is_file() else -1


def read_plan(folder: Path) -> Plan:
    """Reads what a set was, or is, to be made of."""
    try:
        value = json.loads((folder / PLAN).read_text())
        return Plan(**value | {"class_names": tuple(value["class_names"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder / PLAN} cannot be read: {error}; remove {folder} to begin anew"
        ) from error


def read_sums(folder: Path) -> dict[str, str]:
    """Reads the checksums of a set, by file; none of a line that is none."""
    try:
        lines = (folder / SUMS).read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found = [re.fullmatch(r"([0-9a-f]{64})  ([^/]+)", line) for line in lines]
    return {match[2]: match[1] for match in found if match}


def _line(shard: Written) -> str:
    return json.dumps(dataclasses.asdict(shard)) + "\n"


def read_log(folder: Path) -> dict[str, Written]:
    """Reads what became of the shards, by file; a line that is cut is none."""
    found: dict[str, Written] = {}
    try:
        lines = (folder / LOG).read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            shard = Written(**json.loads(line))
            found[shard.file] = dataclasses.replace(
                shard,
                mended=[(i, text) for i, text in shard.mended],
                unreadable=[(i, text) for i, text in shard.unreadable],
            )
    return found


def write_log(folder: Path, all_: Iterable[Written]) -> None:
    """Writes the log anew."""
    _write(folder / LOG, "".join(map(_line, all_)).encode())


def write_lists(
    folder: Path, plan: Plan, sources: Mapping[str, Source], all_: Iterable[Written]
) -> None:
    """Writes which photographs were mended and which cannot be read, where there are any."""
    all_ = list(all_)
    for file, lists in (
        (MENDED, {w.file: w.mended for w in all_}),
        (UNREADABLE, {w.file: w.unreadable for w in all_}),
    ):
        lines = [
            os.fsencode(f"{sources[shard.split].names[i]}\t{text}\n")
            for shard in plan.shards()
            for i, text in lists.get(shard.file, [])
        ]
        if lines:
            _write(folder / file, b"".join(lines))
        else:
            (folder / file).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with whole(path) as new:
        new.write_bytes(content)
