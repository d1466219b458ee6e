"""Prepares photographs for training: a set of tensorflow-datasets, written by several processes."""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

from mgnet_jax.tools.tool import Command, Flag
from mgnet_jax.training.supervise import Interrupted

if TYPE_CHECKING:
    from mgnet_jax.data.photographs.making import Making
    from mgnet_jax.data.photographs.shards import Plan, Source, Written

SHARD_SIZE = 1000
TEST_SHARE = 0.1

NAME = "prepare"
HELP = "make photographs in archives or folders a data set to train with"
FLAGS = (
    Flag("source", "", "folder of ILSVRC2012's archives, or of folders train/CLASS, val/CLASS"),
    Flag("out", "", "folder of data sets, where the set is written as OUT/NAME/VERSION"),
    Flag("name", "", "of the set; default: imagenet2012 for the archives, else that of the source"),
    Flag("test_share", TEST_SHARE, "of the photographs, for the test split if the source has none"),
    Flag("processes", 0, "how many at a time; 0: one for each processor"),
    Flag("on_bad", "stop", "what to do if a photograph cannot be read: stop, or skip to leave it"),
)


class Stopped(Interrupted):
    """A signal stopped the preparation; what is whole is kept."""


def run(command: Command) -> None:
    """Prepares the photographs of --source as a set in --out, or goes on with it.

    Raises:
      DataError: a flag, the source or what is in --out does not fit, or photographs cannot be read.
      Stopped: SIGINT or SIGTERM came.
      WorkerError: a worker process was killed.
    """
    from mgnet_jax.data.info import DataError
    from mgnet_jax.data.photographs.report import hint
    from mgnet_jax.training.progress import say

    given = ["--config"] * command.config_named + [f"--config.{key}" for key in command.overrides]
    if given:
        flags = ", ".join(f"--{flag.name}" for flag in FLAGS)
        raise DataError(
            f"--mode=prepare takes no configuration: {', '.join(given)} would do nothing, leave it "
            f"out; its flags are {flags}"
        )
    own = command.flags
    if not (own["source"] and own["out"]):
        raise DataError("--mode=prepare needs --source=FOLDER and --out=FOLDER")
    folders = {key: Path(own[key]).expanduser() for key in ("source", "out")}
    done = prepare(**{**own, **folders})
    say(hint(done.parent))


def prepare(
    source: Path,
    out: Path,
    name: str = "",
    test_share: float = TEST_SHARE,
    processes: int = 0,
    on_bad: str = "stop",
    shard_size: int = SHARD_SIZE,
) -> Path:
    """Prepares photographs as a set of tensorflow-datasets, or goes on with it, and says so.

    Args:
      source: folder of the archives of ILSVRC2012, or of class folders.
      out: folder of sets.
      name: of the set; empty for imagenet2012, or the name of the source if it is no archives.
      test_share: of the photographs, for the test split if the source has none.
      processes: how many write shards at a time; 0 for one for each processor.
      on_bad: "stop" or "skip", if a photograph cannot be read.
      shard_size: how many photographs of the source a shard has.

    Returns:
      The folder of the set, whole.

    Raises:
      DataError, Stopped, WorkerError: see `run`.
    """
    from mgnet_jax.data.info import DataError
    from mgnet_jax.data.photographs.archives import is_archives, list_source
    from mgnet_jax.data.photographs.making import PLAN, Making
    from mgnet_jax.data.photographs.shards import SPLITS, make_plan
    from mgnet_jax.data.photographs.workers import processors
    from mgnet_jax.training.progress import say

    if on_bad not in ("stop", "skip"):
        raise DataError(f"--on_bad={on_bad} must be stop or skip")
    if processes < 0:
        raise DataError(f"--processes={processes} must be 0 or more")
    name = name or ("imagenet2012" if is_archives(source) else _name_of(source))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise DataError(f"--name={name} must be small letters, digits and _, a letter first")
    making = Making(out / name)
    for folder in (making.home, *making.home.parents):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"--out={out}: {folder} is a file, and must be a folder or nothing")
    with _stoppable():
        say(f"listing the photographs in {source}")
        listing = list_source(source, test_share)
        roots = [str(getattr(part, "root", "/")) for part in (listing.train, listing.test)]
        for root in roots:
            if out.resolve().is_relative_to(Path(root).resolve()):
                raise DataError(f"--out={out} must not lie among the classes in {root}")
        if len(set(roots)) == 2 and test_share != TEST_SHARE:
            say(f"--test_share={test_share} is not used: the test split is that of {roots[1]}")
        parts = zip(SPLITS, (listing.train, listing.test), strict=True)
        sources = {split: cast("Source", part) for split, part in parts}
        plan = make_plan(sources, listing.class_names, name, shard_size, test_share)
        with making.locked():
            if making.begin(plan):
                say(f"damaged, and written anew as this source has it: {making.done / PLAN}")
            _make(making, plan, sources, processes or processors(), on_bad == "skip")
    return making.done


def _make(
    making: "Making", plan: "Plan", sources: Mapping[str, "Source"], processes: int, skip: bool
) -> None:
    """Writes what is missing of a set, if anything is."""
    from mgnet_jax.data.photographs.making import UNREADABLE, read_log
    from mgnet_jax.data.photographs.report import description, some
    from mgnet_jax.training.progress import duration, say

    started = time.monotonic()
    if making.done.exists():
        say(f"checking {making.done}")
        damaged = making.damaged(processes, _counter("files"))
        if not damaged:
            say(f"{making.done} is whole: every file is as it was written")
            say(description(plan, read_log(making.done)))
            return
        say(some("damaged, and written anew:", [f"{n}: {why}" for n, why in damaged.items()]))
        skip = skip or (making.done / UNREADABLE).exists()
        making.reopen(damaged)
    kept = making.kept(plan, processes, _counter("files"))
    if not skip:  # what was left out is read again
        kept = {file: shard for file, shard in kept.items() if not shard.unreadable}
    if kept:
        say(f"{len(kept):,} of {len(plan.shards()):,} shards are whole already")
    all_ = kept | _write(making, plan, sources, processes, skip, kept)
    if any(shard.unreadable for shard in all_.values()) and not skip:
        raise _unreadable(making, plan, sources, all_)
    making.finish(plan, sources, all_)
    say(f"{making.done} is whole, after {duration(time.monotonic() - started)}")
    say(description(plan, all_))


def _write(
    making: "Making",
    plan: "Plan",
    sources: Mapping[str, "Source"],
    processes: int,
    skip: bool,
    kept: Mapping[str, "Written"],
) -> dict[str, "Written"]:
    """Writes the shards that are not among those kept: what became of each, by file."""
    from mgnet_jax.data.photographs import workers
    from mgnet_jax.data.photographs.shards import ShardWork
    from mgnet_jax.training.progress import Count

    todo = [shard for shard in plan.shards() if shard.file not in kept]
    if not todo:
        return {}
    results: dict[str, Written] = {}
    total = sum(plan.counts.values())
    before = total - sum(len(shard.indices) for shard in todo)
    count = Count(total, "images")
    count.update(before)

    def finished(shard: "Written") -> None:
        results[shard.file] = shard
        if shard.sha256:
            making.add(shard)

    def progress(done: int) -> None:
        count.update(min(before + done, total - 1))

    work = ShardWork(making.work, dict(sources), plan.class_names, skip)
    try:
        workers.run(work, todo, min(processes, len(todo)), finished, progress)
        count.update(total)
    finally:
        count.close()
    return results


def _unreadable(
    making: "Making",
    plan: "Plan",
    sources: Mapping[str, "Source"],
    all_: Mapping[str, "Written"],
) -> Exception:
    """Lists what cannot be read, in a file too, and what to do: an error for people."""
    from mgnet_jax.data.info import DataError
    from mgnet_jax.data.photographs.making import UNREADABLE, write_lists
    from mgnet_jax.data.photographs.report import some

    write_lists(making.work, plan, sources, all_.values())
    shards = [shard for shard in plan.shards() if all_[shard.file].unreadable]
    lines = [
        f"{sources[shard.split].name(index)}: {why}"
        for shard in shards
        for index, why in all_[shard.file].unreadable
    ]
    every = sum(plan.counts.values())
    return DataError(
        some(f"{len(lines):,} of {every:,} photographs cannot be read:", lines)
        + f"\nAll are listed in {making.work / UNREADABLE}. {len(shards):,} of {len(all_):,} "
        "shards wait for them, the others are whole. Mend these files in their place and run the "
        "same command again, or add --on_bad=skip to leave them out."
    )


def _counter(unit: str) -> Callable[[int, int], None]:
    """Shows how many of how many are done."""
    from mgnet_jax.training.progress import Count

    counts: list[Count] = []

    def progress(done: int, total: int) -> None:
        if not counts:
            counts.append(Count(total, unit))
        counts[0].update(done)

    return progress


def _name_of(source: Path) -> str:
    """A name for a set, from that of its folder."""
    name = re.sub(r"[^a-z0-9]+", "_", source.resolve().name.lower()).strip("_")
    return name if name[:1].isalpha() else f"photographs_{name}".strip("_")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Makes SIGINT and SIGTERM an error for people; one that is ignored stays so.

    Raises:
      Stopped: one of them came.
    """
    received: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received[:] = [signal.Signals(number)]
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()  # only there signals arrive
    numbers = (signal.SIGINT, signal.SIGTERM) if ours else ()
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        text = "stopped; shards that are whole are kept, and the same command goes on from them"
        raise Stopped(received[0] if received else signal.SIGINT, text) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
