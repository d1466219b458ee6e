"""Shards are whole or not there, always the same, and written by processes that leave nothing."""

import dataclasses
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from photos import cut, make_folders, photograph

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import shards as shards_module
from mgnet_jax.data.photographs import workers
from mgnet_jax.data.photographs.folders import list_folders
from mgnet_jax.data.photographs.making import LOG, PLAN, SUMS, Making, read_log
from mgnet_jax.data.photographs.prepared import read_listing
from mgnet_jax.data.photographs.shards import (
    SPLITS,
    Plan,
    Shard,
    ShardWork,
    Source,
    Written,
    make_plan,
    sha256,
    whole,
)


def nothing(*_: object) -> None:
    """Progress that nobody looks at."""


def planned(
    root: Path, size: int = 5, name: str = "abc", test_share: float = 0.1
) -> tuple[Plan, dict[str, Source]]:
    listing = list_folders(root, test_share)
    parts = zip(SPLITS, (listing.train, listing.test), strict=True)
    sources = {split: cast(Source, part) for split, part in parts}
    return make_plan(sources, listing.class_names, name, size, test_share), sources


@dataclasses.dataclass
class Set:
    """Class folders, and a set to be made of them."""

    root: Path
    making: Making
    skip: bool = False

    def plan(self) -> tuple[Plan, dict[str, Source]]:
        return planned(self.root)

    def work(self) -> ShardWork:
        plan, sources = self.plan()
        return ShardWork(self.making.work, sources, plan.class_names, self.skip)

    def begin(self) -> None:
        self.making.home.mkdir(parents=True, exist_ok=True)
        self.making.begin(self.plan()[0])

    def write(self, *indices: int) -> dict[str, Written]:
        """Writes some of the shards, here."""
        plan, _ = self.plan()
        found = {}
        for index in indices or range(len(plan.shards())):
            written = self.work()(plan.shards()[index], lambda: None)
            found[written.file] = written
            self.making.add(written)
        return found

    def finish(self) -> None:
        self.begin()
        plan, sources = self.plan()
        self.making.finish(plan, sources, self.write())


@pytest.fixture
def a_set(tmp_path: Path) -> Set:
    return Set(make_folders(tmp_path / "in"), Making(tmp_path / "out" / "abc"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- one shard


def test_a_plan_has_all_photographs_in_order(a_set: Set) -> None:
    plan, _ = a_set.plan()
    assert plan.counts == {"train": 12, "validation": 3}
    assert plan.shards() == [
        Shard("train", "abc-train.array_record-00000-of-00003", 0, 5),
        Shard("train", "abc-train.array_record-00001-of-00003", 5, 10),
        Shard("train", "abc-train.array_record-00002-of-00003", 10, 12),
        Shard("validation", "abc-validation.array_record-00000-of-00001", 0, 3),
    ]
    assert [len(digests) for digests in plan.digests.values()] == [3, 1]


def test_a_shard_is_always_the_same_in_any_process(a_set: Set) -> None:
    """Protocol buffers of other processes have their features in another order, unless told."""
    a_set.begin()
    first = a_set.write(0)
    path = a_set.making.work / next(iter(first))
    code = f"""
from pathlib import Path
from mgnet_jax.data.photographs.making import Making
from test_shards import Set
Set(Path({str(a_set.root)!r}), Making(Path({str(a_set.making.home)!r}))).write(0)
"""
    content = path.read_bytes()
    for _ in range(2):
        path.unlink()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment())
        assert path.read_bytes() == content
    (written,) = first.values()
    assert (written.images, written.size) == (5, len(content))
    assert written.sha256 == sha256(path)
    assert 0 < written.records < len(content)


def environment() -> dict[str, str]:
    """Of a process that imports this file."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_a_photograph_that_cannot_be_read_leaves_the_shard_or_is_left_out(a_set: Set) -> None:
    a_set.begin()
    cut(a_set.root / "train" / "a" / "a1.jpg")
    (a_set.root / "train" / "a" / "a2.jpg").write_bytes(b"nothing\n")
    (a_set.root / "train" / "a" / "a3.jpg").write_bytes(photograph(3, form="PNG"))
    plan, _ = a_set.plan()
    ticks: list[int] = []
    stop = a_set.work()(plan.shards()[0], lambda: ticks.append(1))
    assert (stop.images, stop.sha256, len(ticks)) == (0, "", 5)
    assert [index for index, _ in stop.unreadable] == [1, 2]
    assert all(why and "\n" not in why for _, why in stop.unreadable)
    assert stop.mended == [(3, "PNG")]
    assert files(a_set.making.work).keys() == {PLAN}
    a_set.skip = True
    (skip,) = a_set.write(0).values()
    assert dataclasses.replace(stop, images=3) == dataclasses.replace(
        skip, sha256="", size=0, records=0
    )


def raising(error: Exception) -> Callable[..., Any]:
    def raises(*_: object, **__: object) -> Any:
        raise error

    return raises


def test_an_error_of_a_library_names_the_photograph(a_set: Set, monkeypatch: Any) -> None:
    a_set.begin()
    monkeypatch.setattr(shards_module, "canonical", raising(ZeroDivisionError("no\nlines")))
    (written,) = (a_set.work()(shard, nothing) for shard in a_set.plan()[0].shards()[-1:])
    assert written.unreadable == [(i, "ZeroDivisionError: no lines") for i in range(3)]
    monkeypatch.setattr(shards_module, "canonical", raising(MemoryError()))
    with pytest.raises(MemoryError):
        a_set.write(0)


@pytest.mark.parametrize(
    ("number", "fatal"), [(errno.EACCES, False), (errno.EIO, False), (errno.ENOENT, True)]
)
def test_a_source_that_goes_away_is_no_bad_photograph(
    number: int, fatal: bool, a_set: Set, monkeypatch: Any
) -> None:
    a_set.begin()
    a_set.skip = True

    def refuse(path: object, mode: object) -> Any:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("builtins.open", refuse)
    work, shard = a_set.work(), a_set.plan()[0].shards()[-1]
    if fatal:
        with pytest.raises(DataError, match=r"/val/a/a0.jpg: No such file.*went away"):
            work(shard, nothing)
        monkeypatch.undo()
        assert files(a_set.making.work).keys() == {PLAN}
    else:
        assert work(shard, nothing).unreadable == [(i, os.strerror(number)) for i in range(3)]


def test_a_link_to_nothing_is_a_bad_photograph_and_a_file_that_is_gone_is_none(a_set: Set) -> None:
    path = a_set.root / "val" / "b" / "b0.jpg"
    path.unlink()
    path.symlink_to(a_set.root / "nowhere")
    a_set.begin()
    a_set.skip = True
    work, shard = a_set.work(), a_set.plan()[0].shards()[-1]
    assert work(shard, nothing).unreadable == [(1, "a link to a file that is not there")]
    path.unlink()
    path.symlink_to(path.name)
    assert work(shard, nothing).unreadable == [(1, os.strerror(errno.ELOOP))]
    path.unlink()
    with pytest.raises(DataError, match=r"/val/b/b0.jpg: No such file.*went away"):
        work(shard, nothing)


def test_a_full_disk_is_named_and_leaves_nothing(a_set: Set) -> None:
    a_set.begin()
    plan, _ = a_set.plan()
    file = plan.shards()[0].file
    (a_set.making.work / f".{file}.{os.getpid()}.new").symlink_to("/dev/full")
    with pytest.raises(DataError) as error:
        a_set.write(0)
    assert re.search(rf"{file} cannot be written: .*No space left on device; .*", str(error.value))
    assert "the same command goes on" in str(error.value)
    assert files(a_set.making.work).keys() == {PLAN}


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), whole(path) as new:
        new.write_text("ne")
        raise KeyError
    assert files(tmp_path) == {"a": b"old"}
    with whole(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert files(tmp_path) == {"a": b"new"}
    with (
        pytest.raises(DataError, match="b/c cannot be written: No such file"),
        whole(tmp_path / "b" / "c") as new,
    ):
        new.write_text("new")


# ---- a set in the making


def test_what_is_whole_is_kept(a_set: Set) -> None:
    a_set.begin()
    plan, _ = a_set.plan()
    work = a_set.making.work
    one, two, three, four = (shard.file for shard in plan.shards())
    written = a_set.write()
    log = (work / LOG).read_text()
    (work / LOG).write_text(log[: log.rindex('"sha256"')])  # the last line was cut
    (work / f".{four}.7.new").touch()
    content = bytearray((work / one).read_bytes())
    content[9] ^= 1
    (work / one).write_bytes(content)
    cut(work / two)
    seen: list[tuple[int, int]] = []
    kept = a_set.making.kept(plan, 2, lambda *done: seen.append(done))
    assert kept == {three: written[three]} == read_log(work)
    assert seen == [(1, 2), (2, 2)]  # the sizes of the others tell
    assert not list(work.glob(".*"))
    a_set.write(0, 1, 3)
    assert a_set.making.kept(plan, 1, nothing).keys() == {one, two, three, four}


def test_another_plan_is_refused_by_what_is_different(a_set: Set, tmp_path: Path) -> None:
    a_set.begin()
    begin, root = a_set.making.begin, a_set.root
    begin(planned(root, test_share=0.3)[0])  # there is a test split
    for plan, words in (
        (planned(root, size=6)[0], "a shard had 5 photographs, now 6"),
        (planned(root, name="abd")[0], "the set was named abc, now abd"),
    ):
        with pytest.raises(DataError, match=words):
            begin(plan)

    def message() -> str:
        with pytest.raises(DataError) as error:
            begin(a_set.plan()[0])
        assert str(error.value).endswith(f"or remove {a_set.making.work} to begin anew")
        return str(error.value)

    (root / "train" / "b" / "b1.jpg").rename(root / "train" / "b" / "b1.jpeg")
    assert "among the photographs 5 to 9 of train, one had another name or class" in message()
    (root / "val" / "b" / "b1.jpg").touch()
    assert "validation had 3 photographs, now 4" in message()
    (root / "train" / "b").rename(root / "train" / "bb")
    (root / "val" / "b").rename(root / "val" / "bb")
    assert "3 classes, now 3; the first that differs was b, now bb" in message()
    make_folders(root, 1, "d")
    assert "3 classes, now 4; the first that differs was b, now bb" in message()


def test_another_share_is_refused_where_it_counts(tmp_path: Path) -> None:
    root, making = make_folders(tmp_path / "in") / "train", Making(tmp_path / "abc")
    making.home.mkdir()
    making.begin(planned(root, test_share=0.5)[0])
    with pytest.raises(DataError, match=r"share of the test split was 0.5, now 0.25"):
        making.begin(planned(root, test_share=0.25)[0])


def test_what_another_program_made_is_left_alone(a_set: Set) -> None:
    for folder in (a_set.making.work, a_set.making.done):
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").touch()
        with pytest.raises(DataError, match=f"{folder} has no plan.json, so that another program"):
            a_set.begin()
        (folder / PLAN).write_text("{")
        with pytest.raises(DataError, match=f"{folder / PLAN} cannot be read: .*to begin anew"):
            a_set.begin()
        (folder / PLAN).unlink()
        (folder / "dataset_info.json").unlink()
        (folder / f".{PLAN}.3.new").touch()  # killed at the very beginning
        a_set.begin()
        (folder / PLAN).unlink()
        (folder / f".{PLAN}.3.new").unlink()
        folder.rmdir()


def test_one_command_at_a_time(a_set: Set) -> None:
    with a_set.making.locked(), (a_set.making.home / ".lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(DataError, match="being prepared by another command"):
            a_set.making.locked().__enter__()
    with a_set.making.locked():
        pass


def test_a_whole_set_has_its_checksums_and_its_labels(a_set: Set) -> None:
    cut(a_set.root / "train" / "b" / "b1.jpg")
    (a_set.root / "train" / "c" / "c0.jpg").write_bytes(photograph(3, form="PNG"))
    a_set.skip = True
    a_set.finish()
    done = a_set.making.done
    assert not a_set.making.work.exists()
    sums = subprocess.run(["sha256sum", "-c", SUMS], cwd=done, capture_output=True, check=True)
    assert len(sums.stdout.splitlines()) == len(files(done)) - 1
    assert (done / "mended.txt").read_text() == "c/c0.jpg\tPNG\n"
    assert re.fullmatch("b/b1.jpg\t.+\n", (done / "unreadable.txt").read_text())
    listing = read_listing(done)
    labels = np.repeat([0, 1, 2], [4, 3, 4])
    assert listing.train.labels is not None and listing.test.labels is not None
    np.testing.assert_array_equal(listing.train.labels, labels)
    np.testing.assert_array_equal(listing.test.labels, [0, 1, 2])
    assert [listing.train[i][1] for i in range(11)] == labels.tolist()
    names = [listing.train.name(i) for i in range(11)]
    assert names == [f"{c}/{c}{i}.jpg" for c in "abc" for i in range(4) if (c, i) != ("b", 1)]


def test_a_shard_without_photographs_and_a_split_without(a_set: Set) -> None:
    for name in ("c2", "c3"):  # the last shard
        cut(a_set.root / "train" / "c" / f"{name}.jpg")
    a_set.skip = True
    a_set.finish()
    train = read_listing(a_set.making.done).train
    assert len([train[i] for i in range(len(train))]) == 10
    for name in "abc":
        cut(a_set.root / "val" / name / f"{name}0.jpg")
    other = Set(a_set.root, Making(a_set.making.home.with_name("other")), skip=True)
    with pytest.raises(DataError, match="no photograph of the split validation can be read"):
        other.finish()
    assert not other.making.done.exists()


@pytest.mark.parametrize("file", ["shard", "labels-train.npy", "dataset_info.json", LOG, SUMS])
def test_what_is_damaged_in_a_whole_set_is_made_again(file: str, a_set: Set) -> None:
    a_set.finish()
    plan, sources = a_set.plan()
    making, good = a_set.making, files(a_set.making.done)
    assert making.damaged(2, nothing) == {}
    file = plan.shards()[1].file if file == "shard" else file
    path = making.done / file
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    damaged = making.damaged(2, nothing)
    assert damaged
    if file != SUMS:
        assert damaged == {file: "it is not as it was written"}
        path.unlink()
        assert making.damaged(2, nothing) == {file: "No such file or directory"}
        path.write_bytes(changed)
    making.reopen(damaged)
    kept = making.kept(plan, 2, nothing)
    again = [i for i, shard in enumerate(plan.shards()) if shard.file not in kept]
    assert again == {LOG: [0, 1, 2, 3], plan.shards()[1].file: [1]}.get(file, [])
    making.finish(plan, sources, kept | (a_set.write(*again) if again else {}))
    assert files(making.done) == good


@pytest.mark.parametrize("harm", ["changed", "cut", "lost"])
def test_a_damaged_plan_of_a_whole_set_is_written_anew_from_the_same_source(
    harm: str, a_set: Set
) -> None:
    a_set.finish()
    making, good = a_set.making, files(a_set.making.done)
    path = making.done / PLAN
    if harm == "lost":
        path.unlink()
    else:
        content = good[PLAN]
        path.write_bytes(content.replace(b'"c"', b'"d"') if harm == "changed" else content[:99])
    for other in (planned(a_set.root, size=6)[0], planned(a_set.root, name="abd")[0]):
        with pytest.raises(DataError, match=f"{path} is damaged: .*the source as it was") as error:
            making.begin(other)
        assert "remove" not in str(error.value)
    assert making.begin(a_set.plan()[0])
    assert files(making.done) == good and making.damaged(1, nothing) == {}
    assert not making.begin(a_set.plan()[0])
    with pytest.raises(DataError, match="was begun with other photographs"):
        making.begin(planned(a_set.root, size=6)[0])
    line = f"{sha256(path)}  {PLAN}"
    sums = (making.done / SUMS).read_text()
    (making.done / SUMS).write_text(sums.replace(line, "0" * 64 + line[64:]))  # damaged instead
    assert not making.begin(a_set.plan()[0])


# ---- workers


def square(task: int, tick: Callable[[], None]) -> tuple[int, list[str]]:
    """A task that says what its process has imported, and that no signal ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    for _ in range(task):
        tick()
    heavy = sorted({"jax", "tensorflow", "mgnet_jax.commandline"} & sys.modules.keys())
    return task**2, heavy


def test_workers_do_all_tasks_without_jax_and_without_signals() -> None:
    results: list[Any] = []
    parts: list[int] = []
    workers.run(square, range(5), 2, results.append, parts.append)
    assert sorted(results) == [(n**2, []) for n in range(5)]
    assert parts == sorted(parts) and parts[-1] == 10


def test_a_signal_that_is_ignored_stays_so_and_another_leaves_no_work_half_done() -> None:
    results: list[Any] = []
    seen: list[int] = []

    def interrupt(result: Any) -> None:
        results.append(result)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        workers.run(square, range(3), 1, interrupt, nothing)
        assert len(results) == 3
        signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
        with pytest.raises(KeyboardInterrupt):
            workers.run(square, range(3), 1, interrupt, nothing)
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def fail(task: Exception | None, tick: Callable[[], None]) -> None:
    """A task that fails, and one that would take long."""
    if task:
        raise task
    time.sleep(60)


def die(task: int, tick: Callable[[], None]) -> None:
    """A task that memory is short for."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_in_a_worker_ends_the_others() -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match="no disk"):
        workers.run(fail, [DataError("no disk"), None, None], 2, nothing, nothing)
    assert time.monotonic() - start < 30
    with pytest.raises(workers.WorkerError, match="memory is short") as error:
        workers.run(die, [1, 2], 1, nothing, nothing)
    assert error.value.exit_code == 1
