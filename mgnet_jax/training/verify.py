"""Whether what is in a run's folder is whole: its checkpoints, its records, what it is."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mgnet_jax.config import ConfigError, differences, from_json
from mgnet_jax.training import checkpoint, manifest, metrics, workdir
from mgnet_jax.training.checkpoint import CheckpointError
from mgnet_jax.training.manifest import DamageError, FormatError, Manifest


class VerifyError(RuntimeError):
    """Something in a run's folder is not whole."""

    exit_code = 1


class Finding(NamedTuple):
    """What was found of one thing; `wrong` is empty if it is as it should be."""

    name: str
    wrong: str = ""
    note: str = ""
    state: str = "whole"


def verify(folder: Path) -> list[Finding]:
    """Checks all of a run's folder and changes nothing.

    Raises:
      CheckpointError: there is no run.
    """
    if not checkpoint.exist(folder) and not (folder / workdir.CONFIG).exists():
        raise CheckpointError(f"there is no run in {folder}; give the run's --workdir")
    return [*_findings(folder)]


def _findings(folder: Path) -> Iterator[Finding]:
    whole: list[Manifest] = []
    for step in manifest.steps_in(folder / checkpoint.FOLDER):
        finding, found = _checkpoint(folder / checkpoint.FOLDER / str(step))
        yield finding
        if found:
            whole.append(found)
    newest = whole[-1] if whole else None
    if not whole:
        yield Finding("checkpoints", "none is whole")
    others = [str(m.step) for m in whole if newest and m.run["id"] != newest.run["id"]]
    if others:
        yield Finding("checkpoints", f"{', '.join(others)} are of another run than the newest")
    files: tuple[tuple[str, Callable[[Manifest | None, str], str]], ...] = (
        (workdir.CONFIG, _config),
        (workdir.DATA, _data),
        (workdir.RUN, _run),
        ("metrics.jsonl", _records),
    )
    for name, check in files:
        yield Finding(name, _wrong(folder / name, partial(check, newest)))
    yield Finding("metrics.csv", _wrong(folder / "metrics.csv", lambda _: metrics.differ(folder)))
    for left in sorted((folder / checkpoint.FOLDER).glob("*.*")):
        broken = "of a broken-off save, or one under way"
        note = broken if checkpoint.is_unfinished(left) else "does not belong here"
        yield Finding(f"checkpoints/{left.name}", note=note, state="")
    for aside in sorted([*folder.glob("damaged/*"), *folder.glob("checkpoints/damaged/*")]):
        yield Finding(str(aside.relative_to(folder)), note="moved aside as damaged", state="")


def _checkpoint(folder: Path) -> tuple[Finding, Manifest | None]:
    name = f"checkpoints/{folder.name}"
    try:
        found = manifest.read(folder)
        manifest.check(folder, found)
    except (DamageError, FormatError) as error:
        return Finding(name, str(error)), None
    size = sum(size for size, _ in found.files.values())
    score = "" if found.score is None else f", score {100 * found.score:.2f} %"
    return Finding(name, note=f"{len(found.files)} files, {size / 2**20:,.1f} MiB{score}"), found


def _wrong(path: Path, check: Callable[[str], str]) -> str:
    """What is wrong with a text file; `check` says what is wrong with its text."""
    try:
        return check(path.read_bytes().decode())
    except (ConfigError, KeyError, OSError, TypeError, ValueError) as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"


def _config(newest: Manifest | None, text: str) -> str:
    config = from_json(text)
    saved = from_json(json.dumps(newest.run["config"])) if newest else config
    return "; ".join(differences(saved, config))


def _data(newest: Manifest | None, text: str) -> str:
    same = not newest or json.loads(text) == newest.run["data"]
    return "" if same else "is not what the newest checkpoint says"


def _run(newest: Manifest | None, text: str) -> str:
    same = not newest or json.loads(text)["id"] == newest.run["id"]
    return "" if same else "names another run than the newest checkpoint"


def _records(newest: Manifest | None, text: str) -> str:
    records = [(record["kind"], record["step"]) for record in metrics.parse(text.encode())]
    if len(records) != len(set(records)):
        return "has a record twice"
    same = not newest or text.startswith(newest.history)
    return "" if same else "does not begin with the records of the newest checkpoint"
