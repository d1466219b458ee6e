"""The records of a run: metrics.jsonl, metrics.csv and TensorBoard; the only place that knows it.

Steps are optimiser steps; accuracies are fractions 0..1.
"""

import contextlib
import errno
import importlib
import json
import math
import os
from collections.abc import Iterable
from io import FileIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, SupportsFloat

from mgnet_jax.training.files import put_aside, replace_file

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
    try:
        return parse(path.read_bytes() if path.exists() else b"")
    except LogError as error:
        raise LogError(f"{path}, {error}") from error


def parse(content: bytes) -> list[Record]:
    """The records in the content of a metrics.jsonl, as `read_metrics` gives them."""
    records: list[Record] = []
    for line in content.splitlines(keepends=True):
        try:
            records.append(_checked(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if line.endswith(b"\n"):
                raise LogError(f"line {len(records) + 1} is no record: {error}") from error
    return records


def differ(workdir: Path) -> str:
    """What of metrics.csv is not as in metrics.jsonl; empty if it is all the same."""
    content = (workdir / "metrics.csv").read_bytes().decode()
    header, *rows = content.splitlines(keepends=True)
    expected = [_lines(r, header.strip().split(","))[1] for r in read_metrics(workdir)]
    known = header.startswith(",".join(COLUMNS))
    return "" if rows == expected and known else "is not what metrics.jsonl says"


def not_written(workdir: Path, history: str) -> str:
    """What of the files of a finished run is not as it was; empty if all of it is."""
    try:
        if (workdir / "metrics.jsonl").read_bytes() != history.encode():
            return "metrics.jsonl is not what was saved"
        wrong = differ(workdir)
        return wrong and f"metrics.csv {wrong}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except ValueError:
        return "metrics.csv is damaged"


def put_wrong_aside(workdir: Path, history: str, whole: bool = False) -> str:
    """Moves a metrics.jsonl that does not begin with these records, or is not them, aside.

    Args:
      workdir: folder of the run.
      history: the records of the run up to the checkpoint that it goes on from.
      whole: whether those are all, as the run is finished.

    Returns:
      What was wrong, for people; empty where nothing was.
    """
    path, expected = workdir / "metrics.jsonl", history.encode()
    found = path.read_bytes() if path.is_file() else b""
    if found == expected or (found.startswith(expected) and not whole):
        return ""
    lines = zip_longest(*(x.splitlines(keepends=True) for x in (expected, found)))
    at = next(i for i, (one, other) in enumerate(lines, 1) if one != other)
    what = f"{path}: record {at} is not the one that was saved" if found else f"{path} is missing"
    if path.exists():
        what += f"; moved to {put_aside(path, workdir / 'damaged')}"
    return f"{what}. It is written again from the checkpoint"


class MetricsWriter(contextlib.ExitStack):
    """Writes metrics.jsonl, metrics.csv and, when asked, TensorBoard scalars into `workdir`.

    metrics.jsonl has one JSON object a line: `kind` ("train" or "eval"), `step`, `epoch` and some
    of the other columns; metrics.csv has the same as rows, blank where a record has no value. NaN
    and infinity are null in the one, nan in the other, absent in TensorBoard. Lines are flushed as
    written. What cannot be written, as on a full disk, is kept and written later. One process
    writes, process 0 of several. `close()` or the end of a `with` closes all.

    Attributes:
      history: all records so far, those of the run that this one resumes included, as they are in
        metrics.jsonl.
      failure: why the last record is not in the files yet; None if it is.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        history: str = "",
        further: Iterable[str] = (),
        start_step: int = 0,
        tensorboard: bool = False,
        tracker: Any = None,
    ) -> None:
        """Open the files and leave in them what the run is not going to write again.

        Args:
          workdir: folder of the run.
          history: those records, as lines of metrics.jsonl: a resumed run leaves the files of an
            uninterrupted one.
          further: names of columns besides `COLUMNS`.
          start_step: what TensorBoard has after this step is to be forgotten.
          tensorboard: whether to write its scalars too.
          tracker: what else takes the records, a `tracking.Tracker`; closed with this.

        Raises:
          LogError: TensorBoard is asked for but not installed.
        """
        super().__init__()
        self._workdir, self.history = Path(workdir), history
        self.failure: OSError | None = None
        records = [_checked(**json.loads(line)) for line in history.splitlines()]
        before = [name for record in records for name in record]
        self.columns = tuple(dict.fromkeys([*COLUMNS, *further, *before]))
        self._rows = ",".join(self.columns) + "\n"
        self._rows += "".join(_lines(record, self.columns)[1] for record in records)
        self._board: Any = None
        if tensorboard:
            first = start_step + 1 if start_step else 0
            self._board = self.enter_context(_tensorboard(self._workdir / "tensorboard", first))
        self._tracker = self.enter_context(tracker) if tracker else None
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._files = contextlib.ExitStack()
        self.push(self._files)
        try:
            self._write_anew()
        except OSError:
            self.close()
            raise

    def _write_anew(self) -> None:
        """Writes the files whole and opens them for what comes."""
        self._files.close()
        self._open: list[FileIO] = []
        for name, text in (("metrics.jsonl", self.history), ("metrics.csv", self._rows)):
            replace_file(self._workdir / name, text.encode())
            self._open.append(self._files.enter_context(FileIO(self._workdir / name, "a")))

    def write(self, kind: str, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Append a record; raises LogError if its kind or the name of a value is unknown."""
        finite = {name: float(x) for name, x in values.items() if math.isfinite(x)}
        if unknown := values.keys() - set(self.columns):
            known = self.columns[3:]
            raise LogError(f"unknown metrics {sorted(unknown)}; the known ones are {known}")
        record = _checked(kind, int(step), float(epoch), **(dict.fromkeys(values) | finite))
        line, row = _lines(record, self.columns)
        self.history += line
        self._rows += row
        try:
            if self.failure:
                self._write_anew()
            else:
                for file, text in zip(self._open, (line.encode(), row.encode()), strict=True):
                    if file.write(text) != len(text):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.failure = None
        except OSError as error:
            self.failure = error
        for name, x in finite.items() if self._board else ():
            self._board.add_scalar(f"{kind}/{name}", x, int(step))
        if self._tracker:
            self._tracker.write(kind, int(step), finite)

    def rewind(self, history: str) -> None:
        """Drops the records that come after these, the first ones."""
        self.history = history
        self._rows = "".join(self._rows.splitlines(keepends=True)[: 1 + history.count("\n")])
        self._write_anew()

    def catch_up(self) -> None:
        """Writes what could not be written before; OSError if it still cannot be."""
        if self.failure:
            self._write_anew()
            self.failure = None


class NoMetrics(MetricsWriter):
    """Writes nothing: of several processes the first one does it."""

    def __init__(self, workdir: str | os.PathLike[str], **options: Any) -> None:
        """Takes what `MetricsWriter` takes."""
        contextlib.ExitStack.__init__(self)
        self.history, self.failure = "", None

    def write(self, kind: str, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Does nothing."""

    def rewind(self, history: str) -> None:
        """Does nothing."""

    def catch_up(self) -> None:
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
