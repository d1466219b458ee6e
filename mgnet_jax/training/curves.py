"""The curves of a run, with Matplotlib: the only place that knows it."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgnet_jax.training.files import replace_file
from mgnet_jax.training.metrics import Record

CURVES = (  # prefix of the value's name, label, colour (told apart by the colour-blind)
    ("", "training batches", "#56B4E9"),
    ("train_", "train", "#0072B2"),
    ("test_", "test", "#D55E00"),
    ("validation_", "validation", "#E69F00"),
)


def plot_curves(history: Sequence[Record], path: str | os.PathLike[str], title: str) -> None:
    """Draw loss and accuracy against epochs into the PNG file `path`, replaced atomically.

    A star marks the best accuracy (of equal ones the last) of the evaluations: on the validation
    split or, where there is none, the test split, else the training split. NaN and None leave gaps.
    """
    from matplotlib.figure import Figure

    scored = {name for r in history for name, value in r.items() if value is not None}
    split = next((s for s in ("validation_", "test_", "train_") if f"{s}accuracy" in scored), None)
    figure, lines = Figure(figsize=(10, 4.5), layout="constrained"), {}
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    for axes, name, scale in ((left, "loss", 1), (right, "accuracy", 100)):
        for prefix, label, colour in CURVES:
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
    _show_the_end(right)
    left.set_yscale("log" if left.dataLim.ymin > 0 else "linear")
    figure.legend(handles=[*lines.values()], loc="outside lower center", ncols=4, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    replace_file(Path(path), png.getvalue())


def plot_overlaid(histories: Mapping[str, Sequence[Record]], path: Path) -> None:
    """Draw the test accuracies of several runs against epochs into the PNG file `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        points = {r["epoch"]: r["test_accuracy"] for r in history if r.get("test_accuracy")}
        y = [100 * value for value in points.values()]
        axes.plot([*points], y, marker="." if len(y) <= 50 else "", label=name)
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    _show_the_end(axes)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    for text in figure.legend(loc="outside lower center", ncols=1, frameon=False).get_texts():
        text.set_parse_math(False)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    replace_file(path, png.getvalue())


def _show_the_end(axes: Any) -> None:
    """Scales accuracies so that the last three quarters of the epochs, and a star, can be read."""
    lines = [line.get_xydata() for line in axes.lines]
    last = max((x for points in lines for x, _ in points), default=0.0)
    wanted = [y for points in lines for x, y in points if x >= last / 4 or len(points) == 1]
    finite = [y for y in wanted if math.isfinite(y)]
    if finite:
        low, high = min(finite), max(finite)
        margin = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
