"""Curves show every record, whatever there is, in a file that is whole at any moment."""

import math
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.metrics import Record


def history(epochs: int = 4, **evaluated: Sequence[float | None]) -> list[Record]:
    records: list[Record] = []
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

    def drawn(records: list[Record], title: str = "MgNet") -> tuple[Axes, Axes, Legend]:
        plot_curves(records, tmp_path / "curves.png", title)
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
def test_curves_of_whatever_there_is(draw: Draw, records: list[Record]) -> None:
    draw(records, "a title with $^$ and \N{GREEK SMALL LETTER SIGMA}")  # any warning is an error


def test_a_loss_of_zero_is_not_drawn_on_a_log_scale(draw: Draw) -> None:
    left, _, _ = draw([*history(), {"kind": "train", "step": 41, "epoch": 4.1, "loss": 0.0}])
    assert left.get_yscale() == "linear"


def test_the_same_history_gives_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        plot_curves(history(), tmp_path / name, "MgNet")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_rewrite_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    (tmp_path / "curves.png").write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(broken, fail)
        plot_curves([], tmp_path / "curves.png", "")
    assert (tmp_path / "curves.png").read_bytes() == b"old"


def test_optional_libraries_are_loaded_when_used_and_pyplot_never(tmp_path: Path) -> None:
    program = """
import sys
from mgnet_jax.training import curves, files, metrics, progress
assert not {"matplotlib", "tensorboardX", "jax"} & set(sys.modules)
curves.plot_curves([{"kind": "train", "step": 1, "epoch": 1.0, "loss": 1.0}], sys.argv[1], "")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    path = tmp_path / "curves.png"
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(path)], check=True)
    assert path.exists()


def test_the_last_epochs_can_be_told_apart_and_the_best_is_seen(draw: Draw) -> None:
    rising = [0.1, *(0.97 + 0.001 * i for i in range(11))]
    _, right, _ = draw(history(12, validation_accuracy=rising, test_accuracy=[0.9] * 12))
    bottom, top = right.get_ylim()
    assert 85 < bottom < 90 and 98 < top < 101
    falling = [0.99] + [0.5] * 11
    _, right, _ = draw(history(12, validation_accuracy=falling))
    assert right.get_ylim()[1] > 99
