"""Metrics files survive a kill, and a run that goes on leaves those of one that never stopped."""

import csv
import io
import json
import math
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mgnet_jax.training.metrics import (
    COLUMNS,
    LogError,
    MetricsWriter,
    Record,
    put_wrong_aside,
    read_metrics,
)

FILES = ("metrics.jsonl", "metrics.csv")


def contents(workdir: Path) -> list[bytes]:
    return [Path(workdir, name).read_bytes() for name in FILES]


def strict_json(line: str) -> Record:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record: Record = json.loads(line, parse_constant=refuse)
    return record


def run(workdir: Path, steps: int, *, start_step: int = 0) -> None:
    """Write what a run does in steps start_step+1 .. steps: train records, every 5 an eval too."""
    kept = [r for r in read_metrics(workdir) if start_step and r["step"] <= start_step]
    history = "".join(json.dumps(record) + "\n" for record in kept)
    with MetricsWriter(workdir, history=history) as metrics:
        if start_step == 0:
            metrics.write("eval", 0, 0.0, test_loss=2.3, test_accuracy=0.1)
        for step in range(start_step + 1, steps + 1):
            loss = math.nan if step == 4 else 1 / 3 / step
            metrics.write("train", step, step / 5, loss=loss, accuracy=1 - 1 / step)
            if step % 5 == 0:
                metrics.write("eval", step, step / 5, test_loss=0.1, test_accuracy=1 / step)


def test_csv_holds_the_records_of_jsonl(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "loss": 0.1 + 0.2,
        "accuracy": np.float32(0.1),
        "learning_rate": 1e-30,
        "seconds": 3,
    }
    with MetricsWriter(tmp_path) as metrics:
        metrics.write("train", 7, 0.7, **values)
        metrics.write("eval", 10, 1, test_loss=math.nan, validation_loss=-math.inf, test_accuracy=0)
        records = [json.loads(line) for line in metrics.history.splitlines()]
    assert records == [
        {"kind": "train", "step": 7, "epoch": 0.7, **{k: float(v) for k, v in values.items()}},
        {"kind": "eval", "step": 10, "epoch": 1.0}
        | {"test_loss": None, "validation_loss": None, "test_accuracy": 0.0},
    ]
    jsonl, table = (content.decode() for content in contents(tmp_path))
    assert jsonl.startswith('{"kind": "train", "step": 7, "epoch": 0.7, "loss": 0.3')
    assert [strict_json(line) for line in jsonl.splitlines()] == records
    rows = list(csv.DictReader(io.StringIO(table)))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(records)
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
    records = read_metrics(tmp_path)
    for cut in range(len(kept), len(jsonl) - 1):
        (tmp_path / FILES[0]).write_bytes(jsonl[:cut])
        (tmp_path / FILES[1]).write_bytes(table[: cut // 2])
        assert read_metrics(tmp_path) == records[:-1]
        run(tmp_path, 6, start_step=5)
        assert contents(tmp_path) == [jsonl, table]
    (tmp_path / FILES[0]).write_bytes(kept + b"\0" * 40)
    assert read_metrics(tmp_path) == records[:-1]


@pytest.mark.parametrize(
    "line", [b"{", b"7", b'{"kind": "train"}', b'{"kind": "x", "step": 1, "epoch": 1}', b"\xff"]
)
def test_a_damaged_line_is_named_and_the_file_moved_aside(tmp_path: Path, line: bytes) -> None:
    run(tmp_path, 6)
    history = contents(tmp_path)[0].decode()
    lines = contents(tmp_path)[0].splitlines(keepends=True)
    (tmp_path / FILES[0]).write_bytes(b"".join([*lines[:2], line + b"\n", *lines[3:]]))
    damaged = contents(tmp_path)[0]
    with pytest.raises(LogError, match=r"metrics\.jsonl, line 3 "):
        read_metrics(tmp_path)
    assert "record 3 is not the one that was saved; moved" in put_wrong_aside(tmp_path, history)
    assert (tmp_path / "damaged" / FILES[0]).read_bytes() == damaged
    assert "metrics.jsonl is missing" in put_wrong_aside(tmp_path, history)
    with MetricsWriter(tmp_path, history=history) as metrics:
        metrics.write("train", 7, 1.4, loss=1.0)
    assert put_wrong_aside(tmp_path, history) == ""  # more is no harm
    assert contents(tmp_path)[0].decode().startswith(history)


def test_what_a_full_disk_refuses_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetricsWriter(tmp_path) as metrics:
        metrics.write("train", 1, 0.5, loss=1.0)
        before = contents(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "_open", [FullFile(), FullFile()])
            metrics.write("train", 2, 1, loss=1.0)
        assert isinstance(metrics.failure, OSError) and contents(tmp_path) == before
        metrics.write("train", 3, 1.5, loss=1.0)
        assert metrics.failure is None
        assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]
        assert contents(tmp_path)[0].decode() == metrics.history


class FullFile:
    def write(self, text: bytes) -> int:
        return 0


def test_lines_reach_the_disk_as_they_are_written(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as metrics:
        for step in (1, 2):
            metrics.write("train", step, 0.5, loss=1.0)
            assert [content.count(b"\n") for content in contents(tmp_path)] == [step, step + 1]


def test_unknown_names_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as metrics:
        before = contents(tmp_path)
        with pytest.raises(LogError, match="top5"):
            metrics.write("eval", 1, 1.0, loss=1.0, top5=0.5)
        with pytest.raises(LogError, match="trial"):
            metrics.write("trial", 1, 1.0, loss=1.0)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_rewrite_that_fails_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    run(tmp_path, 6)
    before = contents(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(broken, fail)
        MetricsWriter(tmp_path)
    assert contents(tmp_path) == before


def test_reading_changes_nothing_and_needs_no_files(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none") == []
    run(tmp_path, 6)
    before = contents(tmp_path)
    assert len(read_metrics(tmp_path)) == 8
    assert contents(tmp_path) == before


# ---- TensorBoard


def test_tensorboard_missing_is_an_error_before_any_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    run(tmp_path, 6)  # not asked for, not needed
    before = contents(tmp_path)
    with pytest.raises(LogError) as error:
        MetricsWriter(tmp_path, tensorboard=True)
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
    with MetricsWriter(tmp_path, start_step=start_step, tensorboard=True) as metrics:
        metrics.write("train", 30, 1.5, loss=np.float32(0.5), accuracy=0.25)
        metrics.write("eval", 40, 2.0, test_accuracy=math.nan)
        (board,) = Board.made
        assert not board.closed
    assert board.closed and board.logdir == str(tmp_path / "tensorboard")
    assert board.options["purge_step"] == purge_step
    assert board.options["filename_suffix"] == f".{purge_step}"  # else two starts in one second
    assert board.scalars == [("train/loss", 0.5, 30), ("train/accuracy", 0.25, 30)]
