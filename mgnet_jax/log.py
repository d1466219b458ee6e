"""What a run shows and leaves behind: metrics files, the progress line, tables and curves.

Steps are optimiser steps; accuracies are fractions 0..1 in files and printed as % to people.
"""

import contextlib
import dataclasses
import importlib
import io
import json
import math
import numbers
import os
import re
import shutil
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, TextIO

COLUMNS = (  # of metrics.csv; a line of metrics.jsonl has the first three and any of the others
    "kind", "step", "epoch", "loss", "accuracy", "learning_rate", "images_per_second", "seconds",
    "validation_loss", "validation_accuracy",
    "test_loss", "test_accuracy",
)  # fmt: skip
Record = dict[str, Any]


class LogError(ValueError):
    """A setting or a metrics file that logging cannot work with."""


def say(text: str, *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Show `text` to a person, on stdout and at once; all that people see passes through here.

    Characters the stream cannot encode (Greek on an ASCII terminal) become "?" and raise nothing.
    """
    out = stream or sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end=end, file=out, flush=True)


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
    of the other `COLUMNS`; metrics.csv has the same as rows, blank where a record has no value. NaN
    and infinity are null in the one, nan in the other, absent in TensorBoard. Lines are flushed as
    written. One process writes, process 0 of several. `close()` or the end of a `with` closes all.
    """

    def __init__(
        self, workdir: str | os.PathLike[str], *, start_step: int = 0, tensorboard: bool = False
    ) -> None:
        """Open the files and drop from them what the run is going to write again.

        Those are the records after `start_step`, the step it resumes from, or all if that is 0: a
        resumed run leaves the files of an uninterrupted one. Raises LogError, before any file has
        changed, if metrics.jsonl is damaged or TensorBoard asked for but not installed.
        """
        super().__init__()
        self._workdir = Path(workdir)
        first = start_step + 1 if start_step else 0
        lines = [_lines(record) for record in read_metrics(workdir) if record["step"] < first]
        lines.insert(0, ("", ",".join(COLUMNS) + "\n"))
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
        record = _checked(kind, int(step), float(epoch), **(dict.fromkeys(values) | finite))
        for file, line in zip(self._files, _lines(record), strict=True):
            file.write(line)
            file.flush()
        for name, x in finite.items() if self._board else ():
            self._board.add_scalar(f"{kind}/{name}", x, int(step))

    def history(self) -> list[Record]:
        """Return all records so far, those of the run that this one resumes included."""
        return read_metrics(self._workdir)


def _checked(kind: str, step: int, epoch: float, **values: float | None) -> Record:
    if kind not in ("train", "eval"):
        raise LogError(f"the kind of a record is 'train' or 'eval', not {kind!r}")
    if unknown := values.keys() - set(COLUMNS):
        raise LogError(f"unknown metrics {sorted(unknown)}; the known ones are {COLUMNS[3:]}")
    return {"kind": kind, "step": step, "epoch": epoch, **values}


def _lines(record: Record) -> tuple[str, str]:
    """Return a record's line of metrics.jsonl and of metrics.csv, where no cell needs quotes."""
    cells = [record.get(name, "") for name in COLUMNS]
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file such that at any moment the old or the new one is there, whole."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def duration(seconds: float) -> str:
    """Format seconds >= 0, to the nearest one, as m:ss, h:mm:ss or `2 days h:mm:ss`."""
    minutes, s = divmod(round(seconds), 60)
    days, m = divmod(minutes, 24 * 60)
    clock = f"{m // 60}:{m % 60:02}:{s:02}" if minutes >= 60 else f"{m}:{s:02}"
    return f"{days} day{'s' * (days > 1)} {clock}" if days else clock


def progress_line(
    step: int, total_steps: int, epoch: float, epochs: float, loss: float, accuracy: float,
    images_per_second: float, seconds_left: float,
) -> str:  # fmt: skip
    """Format the state of a run as one line, with "-" for a rate or a time not known yet (NaN).

    >>> progress_line(400, 2640, 9.09, 60, 0.0312, 0.991, 12345, 41)
    'step   400/2,640  epoch  9.1/60  loss 0.0312  acc 99.1 %  12,345 images/s  left 0:41'
    """
    total, whole = f"{total_steps:,}", f"{epochs:g}"
    digits = ".4f" if loss == 0 or 1e-3 <= abs(loss) < 1e4 else ".0e"
    rate = f"{images_per_second:,.{int(images_per_second < 10)}f}"
    return (
        f"step {step:>{len(total)},}/{total}  epoch {epoch:>{len(whole) + 2}.1f}/{whole}"
        f"  loss {loss:>6{digits}}  acc {100 * accuracy:>4.1f} %"
        f"  {rate if math.isfinite(images_per_second) else '-':>6} images/s"
        f"  left {duration(seconds_left) if math.isfinite(seconds_left) else '-'}"
    )


@dataclasses.dataclass
class Progress:
    """Shows the progress line: in place on a terminal, elsewhere as a line every `interval_s`.

    The rate and the time left come from the updates of the last 30 seconds, or the last two if they
    are rarer. The first update only starts the clock, so that compilation does not count.
    """

    total_steps: int
    epochs: float
    batch_size: int  # images in a step
    interval_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    stream: TextIO = dataclasses.field(default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        """Start without updates."""
        self.images_per_second = math.nan  # until the second update
        self._points: deque[tuple[float, int]] = deque()  # (seconds not paused, step)
        self._paused_s, self._due, self._shown = 0.0, -math.inf, ""  # shown: the line in place

    def update(self, step: int, loss: float, accuracy: float, *, last: bool = False) -> None:
        """Note the state after `step` steps, and show it when a line is due or it is the `last`."""
        now, points = self.clock(), self._points
        points.append((now - self._paused_s, step))
        while len(points) > 2 and points[-1][0] - points[1][0] >= 30:
            points.popleft()
        seconds, steps = (b - a for a, b in zip(points[0], points[-1], strict=True))
        left = math.nan
        if steps > 0 and seconds > 0:
            self.images_per_second = steps * self.batch_size / seconds
            left = max(self.total_steps - step, 0) * seconds / steps
        if now < self._due and not last:
            return
        run = (step, self.total_steps, self.epochs * step / self.total_steps, self.epochs)
        line = progress_line(*run, loss, accuracy, self.images_per_second, left)
        if self.stream.isatty():
            self._due = now + 0.1
            width = max(shutil.get_terminal_size().columns, 2) - 1
            if len(line) > width:
                line = textwrap.shorten(line.replace("images", "img"), width, placeholder="")
            say("\r" + line.ljust(len(self._shown)), end="\n" if last else "", stream=self.stream)
            self._shown = "" if last else line
        else:
            self._due = now + self.interval_s
            say(line, stream=self.stream)

    def note(self, text: str) -> None:
        """Show a full line of text; a line in place is moved below it."""
        erase = f"\r{' ' * len(self._shown)}\r" if self._shown else ""
        say(f"{erase}{text}\n{self._shown}", end="", stream=self.stream)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside (an evaluation, a checkpoint) out of the rate."""
        start = self.clock()
        yield
        self._paused_s += self.clock() - start

    def close(self) -> None:
        """End a line in place, so that what comes after it (an error) starts a new line."""
        say("", end="\n" if self._shown else "", stream=self.stream)
        self._shown = ""


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """Format rows as an aligned plain-text table, columns of numbers to the right.

    Integers get thousands separators and floats four digits. Text ("99.1 %") stays as it is; None,
    and what a row lacks, is blank. `columns` defaults to all keys in order of appearance.
    """
    names = list(dict.fromkeys(key for row in rows for key in row) if columns is None else columns)
    number = re.compile(r"(-|nan|[-+]?(inf|\d[\d,]*(\.\d*)?(e[-+]?\d+)?)( ?%)?)?")
    aligned = []
    for name in names:
        cells = [_cell(row.get(name)) for row in rows]
        width = max(map(len, [name, *cells]))
        pad = str.rjust if all(map(number.fullmatch, cells)) else str.ljust
        aligned.append([pad(cell, width) for cell in (name, "-" * width, *cells)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return "" if value is None else str(value)
    whole = isinstance(value, numbers.Integral) or 1e4 <= abs(float(value)) < 1e12
    return f"{float(value):{',.0f' if whole else '.4g'}}"


def plot_curves(history: Sequence[Record], path: str | os.PathLike[str], title: str) -> None:
    """Draw loss and accuracy against epochs into the PNG file `path`, replaced atomically.

    A star marks the best accuracy (of equal ones the last) of the evaluations: on the validation
    split or, where there is none, the test split, else the training split. NaN and None leave gaps.
    """
    from matplotlib.figure import Figure

    curves = (  # prefix of the value's name, label, colour (told apart by the colour-blind)
        ("", "training batches", "#56B4E9"), ("train_", "train", "#0072B2"),
        ("test_", "test", "#D55E00"), ("validation_", "validation", "#E69F00"),
    )  # fmt: skip
    scored = {name for r in history for name, value in r.items() if value is not None}
    split = next((s for s in ("validation_", "test_", "train_") if f"{s}accuracy" in scored), None)
    figure, lines = Figure(figsize=(10, 4.5), layout="constrained"), {}
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    for axes, name, scale in ((left, "loss", 1), (right, "accuracy", 100)):
        for prefix, label, colour in curves:
            points = {r["epoch"]: r[prefix + name] for r in history if prefix + name in r}
            x, y = [*points], [math.nan if v is None else scale * v for v in points.values()]
            if not any(map(math.isfinite, y)):
                continue
            if prefix == split and axes is right:
                best = max((v, i) for i, v in enumerate(y) if math.isfinite(v))[1]
                label += f" (★ {y[best]:.2f} % at epoch {x[best]:g})"
                right.plot(x[best], y[best], "*", color=colour, mec="white", ms=15, zorder=5)
                left.axvline(x[best], color=colour, linewidth=1, linestyle=":")
            marker = "." if len(y) <= 50 else ""
            (lines[prefix],) = axes.plot(x, y, color=colour, marker=marker, label=label)
        axes.set(xlabel="epoch", ylabel=f"{name} (%)" if scale > 1 else name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yscale("log" if left.dataLim.ymin > 0 else "linear")
    figure.legend(handles=[*lines.values()], loc="outside lower center", ncols=4, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    replace_file(Path(path), png.getvalue())
