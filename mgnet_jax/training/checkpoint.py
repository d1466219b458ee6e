"""Checkpoints of a run: saving and restoring with orbax, the only place that knows it.

A checkpoint is the whole `TrainState` after some step, in workdir/checkpoints/STEP, with a manifest
that proves it. The newest few are kept, and the one with the best score. What is damaged is moved
to workdir/checkpoints/damaged, never removed.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from mgnet_jax.training import manifest, processes
from mgnet_jax.training.files import put_aside, require_room, sync
from mgnet_jax.training.installation import versions
from mgnet_jax.training.manifest import DamageError, Manifest
from mgnet_jax.training.progress import say
from mgnet_jax.training.sharding import bytes_of
from mgnet_jax.training.silence import in_short, silenced
from mgnet_jax.training.state import TrainState, arrays_of, differences

FOLDER = "checkpoints"
LARGE = 2**26
"""Bytes of a state from which on it pays to save it while training goes on."""
UNFINISHED = (".saving", ".removing")  # ends of the names of what a broken-off save leaves


class CheckpointError(ValueError):
    """There is no checkpoint as asked for; the message says which there are, and what to do."""

    exit_code = 2


class SaveError(RuntimeError):
    """A checkpoint could not be saved; those before it are whole."""

    exit_code = 1


class Checkpoints(contextlib.ExitStack):
    """The checkpoints in a folder.

    Args:
      workdir: folder of the run.
      keep: how many of the newest checkpoints stay; the best scored one stays besides. The folder
        is made if missing, and what a broken-off save left is removed. None: to read only.
      background: whether saving goes on while training does: "on", "off", or "auto", for states
        that are large; one of several processes never does so.
    """

    def __init__(self, workdir: Path, keep: int | None = None, background: str = "auto") -> None:
        super().__init__()
        self.folder, self.keep = Path(workdir).absolute() / FOLDER, keep
        if keep is not None:
            self.enter_context(silenced("orbax"))
        self._orbax = self.enter_context(ocp.Checkpointer(ocp.StandardCheckpointHandler()))
        self._background = background
        self._pool = self.enter_context(ThreadPoolExecutor(1, "save"))
        self._pending: Future[None] | None = None
        self._done: set[int] = set()  # steps restored or saved here: the same in all processes
        if keep is not None and processes.is_first():
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in filter(is_unfinished, self.folder.iterdir()):
                shutil.rmtree(left, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, whole or not, the newest one last."""
        return manifest.steps_in(self.folder)

    def manifests(self) -> dict[int, Manifest]:
        """The readable manifests by step; that the files are as they say is not looked at."""
        found = {}
        for step in self.steps():
            with contextlib.suppress(DamageError):
                found[step] = manifest.read(self.folder / str(step))
        return found

    def newest(self) -> Manifest | None:
        """The newest whole checkpoint; None where there has been none at all.

        Those that are damaged are named and, unless this is to read only, moved aside.

        Raises:
          CheckpointError: none of them is whole.
          FormatError: another version wrote it.
        """
        found = processes.from_first(lambda: self._newest() or "")
        return manifest.read(self.folder / found) if found else None

    def _newest(self) -> str | None:
        damaged = []
        for step in reversed(self.steps()):
            try:
                self._check(step)
            except DamageError as error:
                damaged.append((step, error))
                continue
            for bad, reason in damaged:
                path, aside = self.folder / str(bad), self.folder / "damaged"
                where = f"; moved to {put_aside(path, aside)}" if self.keep else ""
                say(f"checkpoint {bad} is damaged: {reason}{where}. The one of step {step} is used")
            return str(step)
        if damaged:
            reasons = "; ".join(str(error) for _, error in damaged)
            raise CheckpointError(
                f"no checkpoint of {self.folder} is whole: {reasons}. Give another --workdir, or "
                f"move that folder away to start anew"
            )
        return None

    def _check(self, step: int) -> Manifest:
        """The manifest of a whole checkpoint, else DamageError."""
        begun, folder = time.monotonic(), self.folder / str(step)
        found = manifest.read(folder)
        manifest.check(folder, found)
        if (seconds := time.monotonic() - begun) > 1:
            size = sum(size for size, _ in found.files.values())
            say(f"checked the {size / 2**30:.2f} GiB of checkpoint {step} in {seconds:.1f} s")
        return found

    def find(self, which: str = "last") -> Manifest:
        """A whole checkpoint: "last", "best" or the number of its step.

        Raises:
          CheckpointError: `which` is none of these, there is none, or it is damaged.
          FormatError: another version wrote it.
        """
        if which == "last" and (newest := self.newest()):
            return newest
        manifests = self.manifests()
        best = _best(manifests)
        step = best if which == "best" else int(which) if which.isdecimal() else None
        if step is None or step not in self.steps():
            there = ["'last'", *(["'best'"] if best is not None else []), *map(str, self.steps())]
            raise CheckpointError(
                f"no checkpoint {which!r} in {self.folder}; there are {', '.join(there)}"
                if self.steps()
                else f"{self.folder} has no whole checkpoint yet"
            )
        try:
            return self._check(step)
        except DamageError as error:
            rest = ", ".join(str(other) for other in self.steps() if other != step)
            others = f"There are {rest} besides" if rest else "There is no other"
            raise CheckpointError(f"checkpoint {step} is damaged: {error}. {others}") from None

    def restore(self, saved: Manifest, like: Any) -> TrainState:
        """The state of a checkpoint.

        Args:
          saved: from `newest` or `find`.
          like: the state's shapes, types and shardings, as jax.ShapeDtypeStruct.

        Raises:
          CheckpointError: it is of another network, or cannot be read.
        """
        folder = self.folder / str(saved.step)
        if differing := differences(saved.arrays, arrays_of(like)):
            raise CheckpointError(
                f"checkpoint {folder} is whole, but of another network than the configuration and "
                f"this version of mgnet_jax make: {differing}. It was saved by mgnet_jax "
                f"{saved.versions.get('mgnet_jax')}; go on with that one, or with the network that "
                f"it is of"
            )
        try:
            state = self._orbax.restore(folder / "state", args=ocp.args.StandardRestore(like))
        except (MemoryError, jax.errors.JaxRuntimeError):  # not the checkpoint's fault
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise CheckpointError(
                f"checkpoint {folder} is as it was saved and cannot be read by this version of "
                f"orbax, {version('orbax-checkpoint')}; it was saved by "
                f"{saved.versions.get('orbax-checkpoint')}. {in_short(error)}"
            ) from error
        if int(state.step) != saved.step:
            raise CheckpointError(f"checkpoint {folder} holds the state of step {int(state.step)}")
        self._done.add(saved.step)
        return state

    def save(self, state: TrainState, facts: Manifest) -> None:
        """Saves the state under its step; of one that is there, the score and the records alone.

        Args:
          state: what to save; it may be used up when this returns.
          facts: what is known of it; its arrays, files and versions are filled in here.

        Raises:
          SaveError: it was not saved, or the one before, in the background, was not.
        """
        self.wait()
        there = processes.several() or (self.folder / str(facts.step)).is_dir()
        if facts.step in self._done and there:
            return self._guarded(self._annotate, facts)
        self.require_room(state)
        large = {"on": True, "off": False}.get(self._background, bytes_of(state) >= LARGE)
        if large and not processes.several():
            copy = jax.tree.map(jnp.copy, state)  # whose buffers are donated to the next step
            self._pending = self._pool.submit(self._guarded, self._save, facts, copy)
        else:
            self._guarded(self._save, facts, state)

    def wait(self) -> None:
        """Waits for a save in the background; raises SaveError if it failed."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def forget(self) -> None:
        """Has steps that come again saved anew."""
        self._done.clear()

    def poll(self) -> None:
        """Raises SaveError if a save in the background has failed."""
        if self._pending and self._pending.done():
            self.wait()

    def require_room(self, state: Any) -> None:
        """Raises SaveError if there is no room for a checkpoint of such a state."""
        size = bytes_of(state)
        try:
            if processes.is_first():
                require_room(self.folder, size + size // 10 + 2**20)
        except OSError as error:
            raise SaveError(f"there is no room for a checkpoint: {error}") from None

    def _guarded(self, write: Callable[..., None], facts: Manifest, *arguments: Any) -> None:
        try:
            write(facts, *arguments)
        except (MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise SaveError(
                f"checkpoint {self.folder / str(facts.step)} could not be saved: {in_short(error)}"
            ) from error
        self._done.add(facts.step)

    def _save(self, facts: Manifest, state: TrainState) -> None:
        folder, new = (self.folder / f"{facts.step}{end}" for end in ("", UNFINISHED[0]))
        if processes.is_first():
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
        self._orbax.save(new / "state", args=ocp.args.StandardSave(state))
        if processes.is_first():
            facts = dataclasses.replace(facts, arrays=arrays_of(state), versions=versions())
            manifest.write(new, facts)
            self._remove(facts.step)  # of a save that failed at its very end
            new.rename(folder)
            sync(self.folder)
            self._prune()

    def _annotate(self, facts: Manifest) -> None:
        """Gives a checkpoint its score and records."""
        if processes.is_first():
            folder = self.folder / str(facts.step)
            new: dict[str, Any] = {"score": facts.score, "history": facts.history}
            manifest.write(folder, dataclasses.replace(manifest.read(folder), **new))
            self._prune()

    def _prune(self) -> None:
        """Removes the checkpoints that are neither among the newest nor the best."""
        kept = {*self.steps()[-(self.keep or 1) :], _best(self.manifests())}
        for step in {*self.steps()} - kept:
            with contextlib.suppress(OSError):  # tried again after the next save
                self._remove(step)

    def _remove(self, step: int) -> None:
        """Removes a checkpoint if it is there, such that it is never there in part."""
        folder, old = self.folder / str(step), self.folder / f"{step}{UNFINISHED[1]}"
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(folder.rename(old), ignore_errors=True)  # another host may read there


def is_unfinished(path: Path) -> bool:
    """Whether a name in the folder of checkpoints is that of what a broken-off save leaves."""
    return path.suffix in UNFINISHED and path.stem.isdecimal()


def exist(workdir: Path) -> bool:
    """Whether there is any checkpoint in workdir, whole or not."""
    return bool(manifest.steps_in(Path(workdir) / FOLDER))


def _best(manifests: Mapping[int, Manifest]) -> int | None:
    """The step of the best score; of equal ones the later."""
    scores = [(m.score, step) for step, m in manifests.items() if m.score is not None]
    return max(scores)[1] if scores else None
