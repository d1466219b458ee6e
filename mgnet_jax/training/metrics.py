"""The records of a run: metrics.jsonl, metrics.csv and TensorBoard; the only place that knows it.

Steps are optimiser steps; accuracies are fractions 0..1.
"""

import contextlib
import importlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsFloat

from mgnet_jax.training.files import replace_file

COLUMNS = (  # of metrics.csv, before further ones; metrics.jsonl has the first three in each line
    *("kind", "step", "epoch"),
    *("loss", "accuracy", "learning_rate", "images_per_second", "seconds"),
    *("validation_loss", "validation_accuracy"),
    *("test_loss", "test_accuracy"),
)
Record = dict[str, Any]


class LogError(ValueError):
    """A setting or a metrics file that logging cannot work with."""

    exit_code = 2


def read_metrics(workdir: str | os.PathLike[str]) -> list[Record]:
    """Read the records of `workdir`/metrics.jsonl ([] without one), less a torn last line.

    Raises LogError if another line is not a record: the file was damaged or edited.
    """
    path = Path(workdir, "metrics.jsonl")
    records: list[Record] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            records.append(_checked(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if line.endswith(b"\n"):
                raise LogError(f"{path}, line {len(records) + 1} is no record: {error}") from error
    return records


class MetricsWriter(contextlib.ExitStack):
    """Writes metrics.jsonl, metrics.csv and, when asked, TensorBoard scalars into `workdir`.

    metrics.jsonl has one JSON object a line: `kind` ("train" or "eval"), `step`, `epoch` and some
    of the other columns; metrics.csv has the same as rows, blank where a record has no value. NaN
    and infinity are null in the one, nan in the other, absent in TensorBoard. Lines are flushed as
    written. One process writes, process 0 of several. `close()` or the end of a `with` closes all.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        start_step: int = 0,
        further: Iterable[str] = (),
        tensorboard: bool = False,
    ) -> None:
        """Open the files and drop from them what the run is going to write again.

        `further` names columns besides `COLUMNS`.

        Those are the records after `start_step`, the step it resumes from, or all if that is 0: a
        resumed run leaves the files of an uninterrupted one. Raises LogError, before any file has
        changed, if metrics.jsonl is damaged or TensorBoard asked for but not installed.
        """
        super().__init__()
        self._workdir = Path(workdir)
        first = start_step + 1 if start_step else 0
        records = [record for record in read_metrics(workdir) if record["step"] < first]
        before = [name for record in records for name in record]
        self.columns = tuple(dict.fromkeys([*COLUMNS, *further, *before]))
        lines = [_lines(record, self.columns) for record in records]
        lines.insert(0, ("", ",".join(self.columns) + "\n"))
        self._board: Any = None
        if tensorboard:
            self._board = self.enter_context(_tensorboard(self._workdir / "tensorboard", first))
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._files = []
        jsonl, rows = zip(*lines, strict=True)
        for name, part in (("metrics.jsonl", jsonl), ("metrics.csv", rows)):
            replace_file(self._workdir / name, "".join(part).encode())
            file = (self._workdir / name).open("a", encoding="utf-8", newline="")
            self._files.append(self.enter_context(file))

    def write(self, kind: str, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Append a record; raises LogError if its kind or the name of a value is unknown."""
        finite = {name: float(x) for name, x in values.items() if math.isfinite(x)}
        if unknown := values.keys() - set(self.columns):
            known = self.columns[3:]
            raise LogError(f"unknown metrics {sorted(unknown)}; the known ones are {known}")
        record = _checked(kind, int(step), float(epoch), **(dict.fromkeys(values) | finite))
        for file, line in zip(self._files, _lines(record, self.columns), strict=True):
            file.write(line)
            file.flush()
        for name, x in finite.items() if self._board else ():
            self._board.add_scalar(f"{kind}/{name}", x, int(step))

    def history(self) -> list[Record]:
        """Return all records so far, those of the run that this one resumes included."""
        return read_metrics(self._workdir)


class NoMetrics(MetricsWriter):
    """Writes nothing: of several processes the first one does it."""

    def __init__(self, workdir: str | os.PathLike[str], **options: Any) -> None:
        """Takes what `MetricsWriter` takes."""
        contextlib.ExitStack.__init__(self)

    def write(self, kind: str, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Does nothing."""


def _checked(kind: str, step: int, epoch: float, **values: float | None) -> Record:
    if kind not in ("train", "eval"):
        raise LogError(f"the kind of a record is 'train' or 'eval', not {kind!r}")
    if type(step) is not int or type(epoch) not in (int, float):
        raise LogError(f"the step and the epoch of a record are numbers, not {step!r}, {epoch!r}")
    for name, value in values.items():
        if not name.isidentifier() or type(value) not in (int, float, type(None)):
            raise LogError(f"{name!r}: {value!r} is no number with a name")
    return {"kind": kind, "step": step, "epoch": epoch, **values}


def _lines(record: Record, columns: Iterable[str]) -> tuple[str, str]:
    """Return a record's line of metrics.jsonl and of metrics.csv, where no cell needs quotes."""
    cells = [record.get(name, "") for name in columns]
    row = ",".join("nan" if cell is None else str(cell) for cell in cells)
    return json.dumps(record, allow_nan=False) + "\n", row + "\n"


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        board = importlib.import_module("tensorboardX")
    except ImportError as error:
        install = "pip install tensorboardX"
        raise LogError(f"log.tensorboard is true but needs tensorboardX: {install}") from error
    options = {"purge_step": first_step, "filename_suffix": f".{first_step}", "flush_secs": 10}
    return board.SummaryWriter(logdir=str(folder), **options)
