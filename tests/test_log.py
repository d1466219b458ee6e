"""mgnet_jax.log: files that survive a kill, honest rates, readable text, tables and curves."""

import ast
import csv
import io
import json
import math
import re
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from mgnet_jax import log

FILES = ("metrics.jsonl", "metrics.csv")


def contents(workdir: Path) -> list[bytes]:
    return [Path(workdir, name).read_bytes() for name in FILES]


def strict_json(line: str) -> log.Record:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record: log.Record = json.loads(line, parse_constant=refuse)
    return record


def run(workdir: Path, steps: int, *, start_step: int = 0) -> None:
    """Write what a run does in steps start_step+1 .. steps: train records, every 5 an eval too."""
    with log.MetricsWriter(workdir, start_step=start_step) as metrics:
        if start_step == 0:
            metrics.write("eval", 0, 0.0, test_loss=2.3, test_accuracy=0.1)
        for step in range(start_step + 1, steps + 1):
            loss = math.nan if step == 4 else 1 / 3 / step
            metrics.write("train", step, step / 5, loss=loss, accuracy=1 - 1 / step)
            if step % 5 == 0:
                metrics.write("eval", step, step / 5, test_loss=0.1, test_accuracy=1 / step)


# ---- metrics files


def test_csv_holds_the_records_of_jsonl(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "loss": 0.1 + 0.2,
        "accuracy": np.float32(0.1),
        "learning_rate": 1e-30,
        "seconds": 3,
    }
    with log.MetricsWriter(tmp_path) as metrics:
        metrics.write("train", 7, 0.7, **values)
        metrics.write("eval", 10, 1, test_loss=math.nan, validation_loss=-math.inf, test_accuracy=0)
        records = metrics.history()
    assert records == [
        {"kind": "train", "step": 7, "epoch": 0.7, **{k: float(v) for k, v in values.items()}},
        {"kind": "eval", "step": 10, "epoch": 1.0}
        | {"test_loss": None, "validation_loss": None, "test_accuracy": 0.0},
    ]
    jsonl, table = (content.decode() for content in contents(tmp_path))
    assert jsonl.startswith('{"kind": "train", "step": 7, "epoch": 0.7, "loss": 0.3')
    assert [strict_json(line) for line in jsonl.splitlines()] == records
    rows = list(csv.DictReader(io.StringIO(table)))
    assert tuple(rows[0]) == log.COLUMNS and len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        for name, cell in row.items():
            if name not in record:
                assert cell == ""
            elif record[name] is None:
                assert math.isnan(float(cell))
            else:
                assert type(record[name])(cell) == record[name]


@pytest.mark.parametrize(("killed", "checkpoint"), [(12, 10), (12, 5), (12, 12), (10, 9), (3, 0)])
def test_a_resumed_run_leaves_the_files_of_an_uninterrupted_one(
    tmp_path: Path, killed: int, checkpoint: int
) -> None:
    run(tmp_path / "whole", 15)
    run(tmp_path / "resumed", killed)
    run(tmp_path / "resumed", 15, start_step=checkpoint)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "resumed").iterdir()) == sorted(FILES)


def test_a_torn_last_line_is_dropped_wherever_it_was_cut(tmp_path: Path) -> None:
    run(tmp_path, 6)
    jsonl, table = contents(tmp_path)
    kept = jsonl[: jsonl.rindex(b"\n", 0, -1) + 1]
    records = log.read_metrics(tmp_path)
    for cut in range(len(kept), len(jsonl) - 1):
        (tmp_path / FILES[0]).write_bytes(jsonl[:cut])
        (tmp_path / FILES[1]).write_bytes(table[: cut // 2])
        assert log.read_metrics(tmp_path) == records[:-1]
        run(tmp_path, 6, start_step=5)
        assert contents(tmp_path) == [jsonl, table]
    (tmp_path / FILES[0]).write_bytes(kept + b"\0" * 40)
    assert log.read_metrics(tmp_path) == records[:-1]


@pytest.mark.parametrize(
    "line", [b"{", b"7", b'{"kind": "train"}', b'{"kind": "x", "step": 1, "epoch": 1}', b"\xff"]
)
def test_a_damaged_line_is_an_error_and_nothing_is_lost(tmp_path: Path, line: bytes) -> None:
    run(tmp_path, 6)
    lines = contents(tmp_path)[0].splitlines(keepends=True)
    (tmp_path / FILES[0]).write_bytes(b"".join([*lines[:2], line + b"\n", *lines[3:]]))
    before = contents(tmp_path)
    with pytest.raises(log.LogError, match=r"metrics\.jsonl, line 3 "):
        log.MetricsWriter(tmp_path, start_step=6)
    assert contents(tmp_path) == before


def test_lines_reach_the_disk_as_they_are_written(tmp_path: Path) -> None:
    with log.MetricsWriter(tmp_path) as metrics:
        for step in (1, 2):
            metrics.write("train", step, 0.5, loss=1.0)
            assert [content.count(b"\n") for content in contents(tmp_path)] == [step, step + 1]


def test_unknown_names_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    with log.MetricsWriter(tmp_path) as metrics:
        before = contents(tmp_path)
        with pytest.raises(log.LogError, match="top5"):
            metrics.write("eval", 1, 1.0, loss=1.0, top5=0.5)
        with pytest.raises(log.LogError, match="trial"):
            metrics.write("trial", 1, 1.0, loss=1.0)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_rewrite_that_fails_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    run(tmp_path, 6)
    (tmp_path / "curves.png").write_bytes(b"old")
    before = contents(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(broken, fail)
        log.MetricsWriter(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(broken, fail)
        log.plot_curves([], tmp_path / "curves.png", "")
    assert contents(tmp_path) == before
    assert (tmp_path / "curves.png").read_bytes() == b"old"


def test_reading_changes_nothing_and_needs_no_files(tmp_path: Path) -> None:
    assert log.read_metrics(tmp_path / "none") == []
    run(tmp_path, 6)
    before = contents(tmp_path)
    assert len(log.read_metrics(tmp_path)) == 8
    assert contents(tmp_path) == before


# ---- TensorBoard


def test_tensorboard_missing_is_an_error_before_any_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    run(tmp_path, 6)  # not asked for, not needed
    before = contents(tmp_path)
    with pytest.raises(log.LogError) as error:
        log.MetricsWriter(tmp_path, tensorboard=True)
    assert "log.tensorboard" in str(error.value)
    assert "pip install tensorboardX" in str(error.value)
    assert contents(tmp_path) == before


class Board:
    """Stands in for tensorboardX.SummaryWriter."""

    made: ClassVar[list["Board"]] = []

    def __init__(self, logdir: str, **options: object) -> None:
        self.logdir, self.options, self.closed = logdir, options, False
        self.scalars: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize(("start_step", "purge_step"), [(0, 0), (20, 21)])
def test_tensorboard_gets_the_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_step: int, purge_step: int
) -> None:
    module = types.SimpleNamespace(SummaryWriter=Board)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(Board, "made", [])
    with log.MetricsWriter(tmp_path, start_step=start_step, tensorboard=True) as metrics:
        metrics.write("train", 30, 1.5, loss=np.float32(0.5), accuracy=0.25)
        metrics.write("eval", 40, 2.0, test_accuracy=math.nan)
        (board,) = Board.made
        assert not board.closed
    assert board.closed and board.logdir == str(tmp_path / "tensorboard")
    assert board.options["purge_step"] == purge_step
    assert board.options["filename_suffix"] == f".{purge_step}"  # else two starts in one second
    assert board.scalars == [("train/loss", 0.5, 30), ("train/accuracy", 0.25, 30)]


# ---- text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0:00"), (41, "0:41"), (59.6, "1:00"), (3599, "59:59"), (3599.7, "1:00:00")),
        *((86399, "23:59:59"), (86400, "1 day 0:00:00"), (2 * 86400 + 3661, "2 days 1:01:01")),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert log.duration(seconds) == text


@given(st.integers(0, 10**9))
def test_duration_loses_no_second(seconds: int) -> None:
    text = log.duration(seconds)
    match = re.fullmatch(r"(?:(\d+) days? )?(?:(\d\d?):)?(\d\d?):(\d\d)", text)
    assert match
    days, hours, minutes, rest = (int(group or 0) for group in match.groups())
    assert rest < 60 and minutes < 60 and hours < 24
    assert 86400 * days + 3600 * hours + 60 * minutes + rest == seconds


def test_progress_line() -> None:
    line = "step   400/2,640  epoch  9.1/60  loss 0.0312  acc 99.1 %  12,345 images/s  left 0:41"
    assert log.progress_line(400, 2640, 9.09, 60, 0.0312, 0.991, 12345.4, 41) == line
    later = log.progress_line(2640, 2640, 60, 60, 1.2e-5, 0.5, 987, 0)
    assert later == (
        "step 2,640/2,640  epoch 60.0/60  loss  1e-05  acc 50.0 %     987 images/s  left 0:00"
    )
    assert later.index("left") == line.index("left")
    unknown = log.progress_line(1, 10, 0.1, 0.5, math.nan, 1.0, math.nan, math.nan)
    assert (
        unknown == "step  1/10  epoch   0.1/0.5  loss    nan  acc 100.0 %       - images/s  left -"
    )
    assert "loss 0.0000 " in log.progress_line(1, 10, 0.1, 1, 0.0, 0.1, 1, 1)
    assert "loss  2e+12 " in log.progress_line(1, 10, 0.1, 1, 2e12, 0.1, 1, 1)
    assert "  2.5 images/s" in log.progress_line(1, 10, 0.1, 1, 1.0, 0.1, 2.49999, 1)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_say_never_fails_on_a_letter(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    log.say("A = K \N{GREEK SMALL LETTER SIGMA}", stream=stream)
    assert raw.getvalue().decode(encoding) == (
        "A = K ?\n" if encoding == "ascii" else "A = K \u03c3\n"
    )


def test_say_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    log.say("hello")
    assert capsys.readouterr() == ("hello\n", "")


# ---- progress


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A terminal; lines() is what stands on its screen."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        shown, column = [""], 0
        for char in self.getvalue():
            if char == "\n":
                shown.append("")
            elif char != "\r":
                shown[-1] = shown[-1][:column] + char + shown[-1][column + 1 :]
            column = 0 if char in "\r\n" else column + 1
        return [line.rstrip() for line in shown]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fields(line: str) -> tuple[str, str]:
    match = re.search(r"([\d,.]+|-) images/s  left (.*)$", line)
    assert match
    return match[1], match[2]


def test_rate_and_time_left_leave_out_compilation_and_pauses(clock: Clock) -> None:
    stream = io.StringIO()
    progress = log.Progress(1000, 10, 32, interval_s=0, clock=clock, stream=stream)
    clock.now += 500  # compiling, before the first update
    progress.update(1, 2.3, 0.1)
    assert math.isnan(progress.images_per_second)
    clock.now += 2
    progress.update(101, 1.0, 0.5)
    assert progress.images_per_second == 100 * 32 / 2
    with progress.paused():
        clock.now += 77  # evaluating
    clock.now += 2
    progress.update(201, 0.5, 0.9)
    assert progress.images_per_second == 100 * 32 / 2
    lines = stream.getvalue().splitlines()
    assert [fields(line) for line in lines] == [("-", "-"), ("1,600", "0:18"), ("1,600", "0:16")]
    assert "epoch  2.0/10" in lines[-1]


def test_rate_is_that_of_the_last_half_minute(clock: Clock) -> None:
    progress = log.Progress(10**6, 10, 10, clock=clock, stream=io.StringIO())
    progress.update(0, 1.0, 0.5)
    step = 0
    for steps in [1] * 100 + [5] * 29:  # a second each
        clock.now += 1
        step += steps
        progress.update(step, 1.0, 0.5)
    assert 45 < progress.images_per_second < 50  # one slow second is still within the window
    clock.now += 1
    progress.update(step + 5, 1.0, 0.5)
    assert progress.images_per_second == 50
    clock.now += 3600  # updates rarer than the window: the last two
    progress.update(step + 5 + 36, 1.0, 0.5)
    assert progress.images_per_second == 0.1


def test_two_updates_at_one_time_or_step_are_no_rate(clock: Clock) -> None:
    stream = io.StringIO()
    progress = log.Progress(10, 1, 4, interval_s=0, clock=clock, stream=stream)
    progress.update(1, 1.0, 0.5)
    progress.update(2, 1.0, 0.5)
    clock.now += 1
    progress.update(1, 1.0, 0.5)
    assert [fields(line) for line in stream.getvalue().splitlines()] == [("-", "-")] * 3


def test_in_a_log_lines_come_every_interval_the_first_and_the_last(clock: Clock) -> None:
    stream = io.StringIO()
    progress = log.Progress(30, 3, 4, interval_s=10, clock=clock, stream=stream)
    for step in range(1, 26):  # a second each
        progress.update(step, 1.0, 0.5, last=step == 25)
        clock.now += 1
    progress.note("done")
    progress.close()
    *lines, note = stream.getvalue().splitlines()
    assert [int(line[4:7]) for line in lines] == [1, 11, 21, 25]
    assert note == "done" and "\r" not in stream.getvalue()


def test_on_a_terminal_the_line_stays_in_place_and_notes_stand_above(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    progress = log.Progress(3000, 3, 4, clock=clock, stream=terminal)
    progress.note("start")
    progress.update(1, 1234.0, 1.0)  # the longest line
    assert terminal.lines()[0] == "start" and "step     1/3,000" in terminal.lines()[1]
    clock.now += 0.01
    progress.update(2, 1.0, 0.5)  # too soon to see
    assert "step     1/3,000" in terminal.lines()[1]
    clock.now += 1
    progress.update(1000, 0.5, 0.5)
    expected = log.progress_line(1000, 3000, 1, 3, 0.5, 0.5, 999 * 4 / 1.01, 2000 / 999 * 1.01)
    assert terminal.lines() == ["start", expected]
    progress.note("saved")
    progress.note("saved again")
    start, saved, again, line = terminal.lines()
    assert (start, saved, again) == ("start", "saved", "saved again")
    assert line == expected
    progress.update(3000, 0.25, 0.5, last=True)
    progress.note("end")
    assert "step 3,000/3,000" in terminal.lines()[3]
    assert terminal.lines()[4:] == ["end", ""]


def test_close_ends_the_line_in_place_once(clock: Clock) -> None:
    terminal = Terminal()
    progress = log.Progress(30, 3, 4, clock=clock, stream=terminal)
    progress.update(1, 1.0, 0.5)
    progress.close()
    progress.close()
    log.say("error", stream=terminal)
    assert terminal.lines()[1:] == ["error", ""]


@pytest.mark.parametrize("columns", [85, 84, 73, 40, 1])
def test_the_line_in_place_never_wraps(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    progress = log.Progress(2640, 60, 128, clock=clock, stream=terminal)
    progress.update(300, 0.5, 0.9)
    clock.now += 1
    progress.update(400, 0.0312, 0.991)
    (line,) = terminal.lines()
    assert len(line) < max(columns, 2)
    whole = log.progress_line(400, 2640, 400 / 44, 60, 0.0312, 0.991, 12800, 22.4)
    short = "step 400/2,640 epoch 9.1/60 loss 0.0312 acc 99.1 % 12,800 img/s left 0:22"
    shown = {len(whole) + 1: whole, len(whole): short, 73: short.removesuffix(" 0:22")}
    shown[40] = "step 400/2,640 epoch 9.1/60 loss 0.0312"
    assert len(whole) == 84 and line == shown.get(columns, line)  # no time or number is cut in two


# ---- tables


def test_table_aligns_numbers_right_and_text_left() -> None:
    rows: list[dict[str, object]] = [
        {"level": "1 A", "parameters": 2359296, "accuracy": "99.1 %", "loss": 0.03125, "ok": True},
        {
            "level": "12 B",
            "parameters": np.int64(1234),
            "accuracy": "100 %",
            "loss": np.float32(12.5),
        },
        {"level": None, "parameters": 12345.6, "accuracy": "-", "loss": 1e-9, "ok": False},
    ]
    assert log.table(rows).splitlines() == [
        "level  parameters  accuracy     loss  ok",
        "-----  ----------  --------  -------  -----",
        "1 A     2,359,296    99.1 %  0.03125  True",
        "12 B        1,234     100 %     12.5",
        "            12,346         -    1e-09  False"[1:],
    ]


def test_table_shows_the_columns_asked_for() -> None:
    rows: list[dict[str, object]] = [{"a": 1, "b": 2}, {"b": -30.5, "c": math.nan}]
    assert (
        log.table(rows, ["c", "b", "d"]) == "  c      b  d\n---  -----  -\n         2\nnan  -30.5"
    )
    assert log.table([], ["name"]) == "name\n----"
    assert log.table([]) == ""


# ---- curves


def history(epochs: int = 4, **evaluated: Sequence[float | None]) -> list[log.Record]:
    records: list[log.Record] = []
    for step in range(1, 10 * epochs + 1):
        values = {"loss": 2 / step, "accuracy": 1 - 1 / step}
        records.append({"kind": "train", "step": step, "epoch": step / 10, **values})
        if step % 10 == 0:
            scores = {name: series[step // 10 - 1] for name, series in evaluated.items()}
            records.append({"kind": "eval", "step": step, "epoch": step / 10, **scores})
    return records


Draw = Callable[..., tuple[Axes, Axes, Legend]]


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draw curves, check the file, and return the two panels and the legend."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def spy(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        savefig(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)

    def drawn(records: list[log.Record], title: str = "MgNet") -> tuple[Axes, Axes, Legend]:
        log.plot_curves(records, tmp_path / "curves.png", title)
        png = (tmp_path / "curves.png").read_bytes()
        assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82")
        width, height = struct.unpack(">II", png[16:24])
        assert width >= 800 and height >= 400 and len(png) > 5000
        assert b"atplotlib" not in png  # a new version leaves the same file
        assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
        left, right = figures[-1].axes
        return left, right, figures[-1].legends[0]

    return drawn


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(x, y) for x, y in np.asarray(line.get_xydata()).tolist()]


def curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    labels = [str(line.get_label()).split(" (")[0] for line in axes.get_lines()]
    lines = zip(labels, axes.get_lines(), strict=True)
    return {label: points(line) for label, line in lines if not label.startswith("_")}


def test_curves_show_every_record_and_star_the_best_validation(draw: Draw) -> None:
    records = history(
        validation_accuracy=[0.5, 0.75, 0.75, 0.6],  # of equal ones the last is the best
        test_accuracy=[0.1, 0.2, 0.3, 0.4],
        test_loss=[3.0, 2.0, 1.0, 0.5],
    )
    left, right, legend = draw(records)
    assert list(curves(left)) == ["training batches", "test"]
    assert curves(left)["training batches"][9] == (1.0, 0.2)
    assert curves(left)["test"] == [(1, 3), (2, 2), (3, 1), (4, 0.5)]
    assert curves(right)["validation"] == [(1, 50), (2, 75), (3, 75), (4, 60)]
    stars = [points(line) for line in right.get_lines() if line.get_marker() == "*"]
    assert stars == [[(3, 75)]]
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[0] == "training batches" and len(labels) == 3
    assert labels[2].startswith("validation (") and labels[2].endswith(" 75.00 % at epoch 3)")
    assert left.get_yscale() == "log" and right.get_yscale() == "linear"
    for axes in (left, right):  # the legend covers no curve
        assert not axes.get_window_extent().overlaps(legend.get_window_extent())


def test_curves_leave_gaps_for_values_that_are_not_finite(draw: Draw) -> None:
    accuracies = [None, 0.95, None, 0.5]
    left, right, legend = draw(history(test_accuracy=accuracies, test_loss=[None] * 4))
    assert list(curves(left)) == ["training batches"]
    assert [y for _, y in curves(right)["test"]] == pytest.approx(
        [math.nan, 95, math.nan, 50], nan_ok=True
    )
    assert legend.get_texts()[-1].get_text().endswith("95.00 % at epoch 2)")
    assert {line.get_marker() for line in right.get_lines()} == {".", "*"}  # lone points are seen


@pytest.mark.parametrize(
    "records",
    [
        [],
        history()[:1],
        [{"kind": "train", "step": 1, "epoch": 1.0, "loss": None, "accuracy": None}],
        [{"kind": "eval", "step": 1, "epoch": 1.0, "test_accuracy": 0.3}],
        [{"kind": "train", "step": 1, "epoch": 1.0, "loss": math.inf, "accuracy": math.nan}],
        [{"kind": "eval", "step": 1, "epoch": 0.0, "test_accuracy": math.nan, "test_loss": 1e300}],
        [r for r in history() if r["kind"] == "train"],
    ],
)
def test_curves_of_whatever_there_is(draw: Draw, records: list[log.Record]) -> None:
    draw(records, "a title with $^$ and \N{GREEK SMALL LETTER SIGMA}")  # any warning is an error


def test_a_loss_of_zero_is_not_drawn_on_a_log_scale(draw: Draw) -> None:
    left, _, _ = draw([*history(), {"kind": "train", "step": 41, "epoch": 4.1, "loss": 0.0}])
    assert left.get_yscale() == "linear"


def test_the_same_history_gives_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        log.plot_curves(history(), tmp_path / name, "MgNet")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- the module


def test_optional_libraries_are_loaded_when_used_and_pyplot_never(tmp_path: Path) -> None:
    program = """
import sys
from mgnet_jax import log
assert not {"matplotlib", "tensorboardX"} & set(sys.modules)
log.plot_curves([{"kind": "train", "step": 1, "epoch": 1.0, "loss": 1.0}], sys.argv[1], "")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    path = tmp_path / "curves.png"
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(path)], check=True)
    assert path.exists()


def test_the_module_stands_alone_and_prints_in_one_place() -> None:
    tree = ast.parse(Path(log.__file__).read_text(encoding="utf-8"))
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").split(".")[0])
    assert imported <= sys.stdlib_module_names
    source = ast.unparse(tree)
    assert source.count("print(") == 1 and source.count("sys.stdout.") == 0
