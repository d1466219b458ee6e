"""What people see: honest rates, a line that stays in place, readable text and tables."""

import ast
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnet_jax.training import progress as progress_module
from mgnet_jax.training.progress import (
    Count,
    Progress,
    count_line,
    duration,
    progress_line,
    say,
    table,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0:00"), (41, "0:41"), (59.6, "1:00"), (3599, "59:59"), (3599.7, "1:00:00")),
        *((86399, "23:59:59"), (86400, "1 day 0:00:00"), (2 * 86400 + 3661, "2 days 1:01:01")),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(0, 10**9))
def test_duration_loses_no_second(seconds: int) -> None:
    text = duration(seconds)
    match = re.fullmatch(r"(?:(\d+) days? )?(?:(\d\d?):)?(\d\d?):(\d\d)", text)
    assert match
    days, hours, minutes, rest = (int(group or 0) for group in match.groups())
    assert rest < 60 and minutes < 60 and hours < 24
    assert 86400 * days + 3600 * hours + 60 * minutes + rest == seconds


def test_progress_line() -> None:
    line = "step   400/2,640  epoch  9.1/60  loss 0.0312  acc 99.1 %  12,345 images/s  left 0:41"
    assert progress_line(400, 2640, 9.09, 60, 0.0312, 0.991, 12345.4, 41) == line
    later = progress_line(2640, 2640, 60, 60, 1.2e-5, 0.5, 987, 0)
    assert later == (
        "step 2,640/2,640  epoch 60.0/60  loss  1e-05  acc 50.0 %     987 images/s  left 0:00"
    )
    assert later.index("left") == line.index("left")
    unknown = progress_line(1, 10, 0.1, 0.5, math.nan, 1.0, math.nan, math.nan)
    assert (
        unknown == "step  1/10  epoch   0.1/0.5  loss    nan  acc 100.0 %       - images/s  left -"
    )
    assert "loss 0.0000 " in progress_line(1, 10, 0.1, 1, 0.0, 0.1, 1, 1)
    assert "loss  2e+12 " in progress_line(1, 10, 0.1, 1, 2e12, 0.1, 1, 1)
    assert "  2.5 images/s" in progress_line(1, 10, 0.1, 1, 1.0, 0.1, 2.49999, 1)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_say_never_fails_on_a_letter(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    say("A = K \N{GREEK SMALL LETTER SIGMA}", stream=stream)
    assert raw.getvalue().decode(encoding) == (
        "A = K ?\n" if encoding == "ascii" else "A = K \u03c3\n"
    )


def test_say_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
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
    progress = Progress(1000, 10, 32, interval_s=0, clock=clock, stream=stream)
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
    progress = Progress(10**6, 10, 10, clock=clock, stream=io.StringIO())
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
    progress = Progress(10, 1, 4, interval_s=0, clock=clock, stream=stream)
    progress.update(1, 1.0, 0.5)
    progress.update(2, 1.0, 0.5)
    clock.now += 1
    progress.update(1, 1.0, 0.5)
    assert [fields(line) for line in stream.getvalue().splitlines()] == [("-", "-")] * 3


def test_in_a_log_lines_come_every_interval_the_first_and_the_last(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(30, 3, 4, interval_s=10, clock=clock, stream=stream)
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
    progress = Progress(3000, 3, 4, clock=clock, stream=terminal)
    progress.note("start")
    progress.update(1, 1234.0, 1.0)  # the longest line
    assert terminal.lines()[0] == "start" and "step     1/3,000" in terminal.lines()[1]
    clock.now += 0.01
    progress.update(2, 1.0, 0.5)  # too soon to see
    assert "step     1/3,000" in terminal.lines()[1]
    clock.now += 1
    progress.update(1000, 0.5, 0.5)
    expected = progress_line(1000, 3000, 1, 3, 0.5, 0.5, 999 * 4 / 1.01, 2000 / 999 * 1.01)
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
    progress = Progress(30, 3, 4, clock=clock, stream=terminal)
    progress.update(1, 1.0, 0.5)
    progress.close()
    progress.close()
    say("error", stream=terminal)
    assert terminal.lines()[1:] == ["error", ""]


@pytest.mark.parametrize("columns", [85, 84, 73, 40, 1])
def test_the_line_in_place_never_wraps(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    progress = Progress(2640, 60, 128, clock=clock, stream=terminal)
    progress.update(300, 0.5, 0.9)
    clock.now += 1
    progress.update(400, 0.0312, 0.991)
    (line,) = terminal.lines()
    assert len(line) < max(columns, 2)
    whole = progress_line(400, 2640, 400 / 44, 60, 0.0312, 0.991, 12800, 22.4)
    short = "step 400/2,640 epoch 9.1/60 loss 0.0312 acc 99.1 % 12,800 img/s left 0:22"
    shown = {len(whole) + 1: whole, len(whole): short, 73: short.removesuffix(" 0:22")}
    shown[40] = "step 400/2,640 epoch 9.1/60 loss 0.0312"
    assert len(whole) == 84 and line == shown.get(columns, line)  # no time or number is cut in two


def test_a_count_is_shown_in_a_log_and_on_a_terminal(clock: Clock) -> None:
    stream, terminal = io.StringIO(), Terminal()
    log = Count(2000, "images", clock=clock, stream=stream)
    screen = Count(2000, "images", clock=clock, stream=terminal)
    for done in range(1000, 2001, 40):  # 1000 were done before; a second each
        log.update(done)
        screen.update(done)
        clock.now += 1
    screen.note("done")
    assert stream.getvalue().splitlines() == [
        "1,000/2,000 images      - images/s  left -",
        "1,400/2,000 images     40 images/s  left 0:15",
        "1,800/2,000 images     40 images/s  left 0:05",
        "2,000/2,000 images     40 images/s  left 0:00",
    ]
    assert terminal.lines() == [stream.getvalue().splitlines()[-1], "done", ""]
    slow = count_line(10, 12, "files", (100.0, 10))
    assert slow == "10/12 files    0.1 files/s  left 0:20"


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
    assert table(rows).splitlines() == [
        "level  parameters  accuracy     loss  ok",
        "-----  ----------  --------  -------  -----",
        "1 A     2,359,296    99.1 %  0.03125  True",
        "12 B        1,234     100 %     12.5",
        "            12,346         -    1e-09  False"[1:],
    ]


def test_table_shows_the_columns_asked_for() -> None:
    rows: list[dict[str, object]] = [{"a": 1, "b": 2}, {"b": -30.5, "c": math.nan}]
    assert table(rows, ["c", "b", "d"]) == "  c      b  d\n---  -----  -\n         2\nnan  -30.5"
    assert table([], ["name"]) == "name\n----"
    assert table([]) == ""


# ---- the module


@pytest.mark.parametrize("name", ["progress", "files", "metrics", "curves"])
def test_these_modules_need_nothing_but_each_other(name: str) -> None:
    path = Path(progress_module.__file__).with_name(f"{name}.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").split(".")[0])
            assert (node.module or "") in {
                *sys.stdlib_module_names,
                "collections.abc",
                "mgnet_jax.training.files",
                "mgnet_jax.training.metrics",
                "mgnet_jax.training.progress",
            }
    assert imported <= sys.stdlib_module_names | {"mgnet_jax"}
    source = ast.unparse(tree)
    assert source.count("print(") == (name == "progress") and source.count("sys.stdout.") == 0
