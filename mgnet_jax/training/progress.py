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


@dataclasses.dataclass
class Progress:
    """Shows the progress line: in place on a terminal, elsewhere as a line every `interval_s`.

    The rate and the time left come from the updates of the last 30 seconds, or the last two if they
    are rarer. The first update only starts the clock, so that compilation does not count.
    """

    total_steps: int
    epochs: float
    batch_size: float  # images in a step, on average
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
