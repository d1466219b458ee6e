"""What proves a checkpoint: the file that says whose it is, with the SHA-256 of all the others.

Its first line is the SHA-256 of the rest; then come the facts as JSON, on one line, and the records
of the run's metrics up to the checkpoint, as in metrics.jsonl.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mgnet_jax.training.files import replace_file, sync

NAME = "manifest"
FORMAT = 1


class DamageError(Exception):
    """A checkpoint is not as it was saved; the message names the file."""


class FormatError(ValueError):
    """A checkpoint is of another version of this package."""

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Facts of a checkpoint.

    Attributes:
      step: optimiser steps done.
      run: whose it is, see `workdir.Run`.
      arrays: the type and shape of each array of the state, by its path.
      score: the accuracy (0 to 1) by which the best epoch is chosen; None if it was not scored.
      sums: the metrics of the steps since the last record, from `Metrics.kept`.
      devices: over which the batches were split.
      versions: of the packages that saved it.
      history: the records of the metrics, as in metrics.jsonl.
      files: [bytes, SHA-256] of each file, by its path in the folder.
    """

    step: int
    run: Mapping[str, Any]
    arrays: Mapping[str, str]
    score: float | None = None
    sums: Mapping[str, float] = dataclasses.field(default_factory=dict)
    devices: int = 1
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    history: str = ""
    files: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict)


def steps_in(folder: Path) -> list[int]:
    """The steps that folders of checkpoints are named by, in order."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(p.name) for p in paths if re.fullmatch("0|[1-9][0-9]*", p.name))


def write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of the files in a folder; those of one that is there are not read again.

    It is there as a whole or not at all, also after a loss of power.
    """
    files = manifest.files or dict(_hashes(folder, _names(folder)))
    for path in () if manifest.files else folder.rglob("*"):
        sync(path)
    facts = dataclasses.asdict(manifest) | {"files": files, "format": FORMAT}
    history = facts.pop("history")
    body = (json.dumps(facts) + "\n" + history).encode()
    replace_file(folder / NAME, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read(folder: Path) -> Manifest:
    """The manifest of a checkpoint; that its files are as it says is not looked at.

    Raises:
      DamageError: it is missing or damaged, or the folder is that of another step.
      FormatError: another version wrote it.
    """
    path = folder / NAME
    if not path.is_file():
        if (folder / "_CHECKPOINT_METADATA").exists():
            raise FormatError(
                f"{folder} was saved by an older version of mgnet_jax, without a manifest; go on "
                f"with that version, or give another --workdir"
            )
        raise DamageError(f"{path} is missing")
    try:
        digest, body = path.read_bytes().split(b"\n", 1)
        if digest != hashlib.sha256(body).hexdigest().encode():
            raise ValueError("its SHA-256 is another one")
        line, history = body.decode().split("\n", 1)
        facts = json.loads(line)
    except (OSError, ValueError) as error:
        raise DamageError(f"{path} is damaged ({error})") from None
    if (found := facts.pop("format")) != FORMAT:
        raise FormatError(
            f"{folder} has format {found}, and this version of mgnet_jax reads format {FORMAT}: "
            f"go on with the version that saved it, {facts.get('versions', {}).get('mgnet_jax')}"
        )
    manifest = Manifest(**facts, history=history)
    if folder.name != str(manifest.step):
        raise DamageError(f"{folder} holds the state after step {manifest.step}")
    return manifest


def check(folder: Path, manifest: Manifest) -> None:
    """Raises DamageError if a file is missing or not as it was saved."""
    sizes = {name: size for name, (size, _) in manifest.files.items()}
    for name, size in sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found:,} bytes, not {size:,}"
            raise DamageError(f"{path} {what}")
    for name, (_, digest) in _hashes(folder, sizes):
        if digest != manifest.files[name][1]:
            raise DamageError(f"{folder / name} is damaged (its SHA-256 is another one)")


def _names(folder: Path) -> list[str]:
    """All files under a folder but the manifest, relative to it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [name for path in files if (name := str(path.relative_to(folder))) != NAME]


def _hashes(folder: Path, names: Any) -> list[tuple[str, tuple[int, str]]]:
    """The name of each file with its size in bytes and its SHA-256; read by several threads."""

    def one(name: str) -> tuple[str, tuple[int, str]]:
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return name, (file.tell(), digest)
        except OSError as error:
            raise DamageError(f"{folder / name} cannot be read ({error})") from None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, names))
