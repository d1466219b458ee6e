"""The one place that speaks: what people see of a run, as text, a progress line and tables.

Accuracies are fractions 0..1 and printed as %.
"""

import contextlib
import dataclasses
import math
import numbers
import re
import shutil
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO


def say(text: str, *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Show `text` to a person, on stdout and at once; all that people see passes through here.

    Characters the stream cannot encode (Greek on an ASCII terminal) become "?" and raise nothing.
    """
    out = stream or sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), end=end, file=out, flush=True)


def warn(text: str) -> None:
    """Show what may be wrong, if it is anything, on stderr."""
    if text:
        say(f"warning: {text}", stream=sys.stderr)


def duration(seconds: float) -> str:
    """Format seconds >= 0, to the nearest one, as m:ss, h:mm:ss or `2 days h:mm:ss`."""
    minutes, s = divmod(round(seconds), 60)
    days, m = divmod(minutes, 24 * 60)
    clock = f"{m // 60}:{m % 60:02}:{s:02}" if minutes >= 60 else f"{m}:{s:02}"
    return f"{days} day{'s' * (days > 1)} {clock}" if days else clock


def progress_line(
    step: int,
    total_steps: int,
    epoch: float,
    epochs: float,
    loss: float,
    accuracy: float,
    images_per_second: float,
    seconds_left: float,
) -> str:
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


def count_line(done: int, total: int, unit: str, pace: tuple[float, float] | None) -> str:
    """Format how far a count is, with "-" for a rate not known yet.

    >>> count_line(12345, 1281167, "images", (30, 15000))
    '   12,345/1,281,167 images    500 images/s  left 42:18'
    """
    whole, rate, left = f"{total:,}", "-", "-"
    if pace:
        seconds, more = pace
        rate = f"{more / seconds:,.{int(more < 10 * seconds)}f}"
        left = duration(max(total - done, 0) * seconds / more)
    return f"{done:>{len(whole)},}/{whole} {unit}  {rate:>5} {unit}/s  left {left}"


@dataclasses.dataclass(kw_only=True)
class Line:
    """A line that changes: in place on a terminal, elsewhere a new one every `interval_s`."""

    interval_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    stream: TextIO = dataclasses.field(default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        """Start without a line."""
        self._due, self._shown = -math.inf, ""  # shown: the line in place

    @property
    def due(self) -> bool:
        """Whether it is time to show the line again."""
        return self.clock() >= self._due

    def show(self, text: str, *, last: bool = False) -> None:
        """Show the line now; after the `last` comes other text."""
        now = self.clock()
        if not self.stream.isatty():
            self._due = now + self.interval_s
            say(text, stream=self.stream)
            return
        self._due = now + 0.1
        width = max(shutil.get_terminal_size().columns, 2) - 1
        if len(text) > width:
            text = textwrap.shorten(text.replace("images", "img"), width, placeholder="")
        say("\r" + text.ljust(len(self._shown)), end="\n" if last else "", stream=self.stream)
        self._shown = "" if last else text

    def note(self, text: str) -> None:
        """Show a full line of text; a line in place is moved below it."""
        erase = f"\r{' ' * len(self._shown)}\r" if self._shown else ""
        say(f"{erase}{text}\n{self._shown}", end="", stream=self.stream)

    def close(self) -> None:
        """End a line in place, so that what comes after it (an error) starts a new line."""
        say("", end="\n" if self._shown else "", stream=self.stream)
        self._shown = ""


class Rate:
    """How fast a count grows: over the last 30 seconds, or between the last two if rarer."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()  # (seconds, count)

    def update(self, seconds: float, count: int) -> tuple[float, float] | None:
        """Note the count at a time; (seconds, how many in them), None if it is not known yet."""
        points = self._points
        points.append((seconds, count))
        while len(points) > 2 and points[-1][0] - points[1][0] >= 30:
            points.popleft()
        past, more = (b - a for a, b in zip(points[0], points[-1], strict=True))
        return (past, more) if more > 0 and past > 0 else None


@dataclasses.dataclass
class Progress(Line):
    """Shows the progress line of a run.

    The rate and the time left are those of `Rate`. The first update only starts the clock, so that
    compilation does not count.
    """

    total_steps: int
    epochs: float
    batch_size: float  # images in a step, on average

    def __post_init__(self) -> None:
        """Start without updates."""
        super().__post_init__()
        self.images_per_second = math.nan  # until the second update
        self._rate, self._paused_s = Rate(), 0.0

    def update(
        self,
        step: int,
        loss: float,
        accuracy: float,
        *,
        waiting: float | None = None,
        last: bool = False,
    ) -> None:
        """Note the state after `step` steps, and show it when a line is due or it is the `last`.

        `waiting` is the share of the time spent waiting for images, where there is such a thing.
        """
        left = math.nan
        if rate := self._rate.update(self.clock() - self._paused_s, step):
            seconds, steps = rate
            self.images_per_second = steps * self.batch_size / seconds
            left = max(self.total_steps - step, 0) * seconds / steps
        if self.due or last:
            run = (step, self.total_steps, self.epochs * step / self.total_steps, self.epochs)
            line = progress_line(*run, loss, accuracy, self.images_per_second, left)
            if waiting is not None:
                line += f"  waits {100 * waiting:.0f} %"
            self.show(line, last=last)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside (an evaluation, a checkpoint) out of the rate."""
        start = self.clock()
        yield
        self._paused_s += self.clock() - start


@dataclasses.dataclass
class Count(Line):
    """Shows how many of something are done, how fast that goes and how long it will take."""

    total: int
    unit: str  # what is counted, in the plural

    def __post_init__(self) -> None:
        """Start without updates."""
        super().__post_init__()
        self._rate = Rate()

    def update(self, done: int) -> None:
        """Note how many are `done`, and show it when a line is due or they are all."""
        last = done >= self.total
        rate = self._rate.update(self.clock(), done)
        if self.due or last:
            self.show(count_line(done, self.total, self.unit, rate), last=last)


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


def mebibytes(size: int) -> str:
    """A number of bytes as MiB."""
    return f"{size / 2**20:,.1f} MiB"
