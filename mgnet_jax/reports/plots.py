"""The figures of an inspection, with Matplotlib, as the bytes of PNG files."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mgnet_jax.analysis.inspection import Ablation, Dynamics, Operator
from mgnet_jax.analysis.trace import Trace

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by the colour-blind (Okabe and Ito)."""
SIDE = 3.1  # inches of an axis
ACROSS = 4  # axes side by side


def _axes(count: int, ratio: float = 1.0) -> tuple[Any, list[Any]]:
    """A figure with so many axes, at most `ACROSS` side by side."""
    from matplotlib.figure import Figure

    columns = min(count, ACROSS)
    rows = -(-count // columns)
    size = (max(4.2, SIDE * columns), SIDE * ratio * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, list(axes[:count])


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()


def _tidy(axes: Any, **labels: Any) -> None:
    axes.set(**labels)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _whole_steps(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def residuals(traces: Sequence[Trace]) -> bytes:
    """The relative residual of each grid against the steps: median and quartiles."""
    figure, axes = _axes(len(traces))
    for ax, found in zip(axes, traces, strict=True):
        low, middle, high = found.quartiles()
        steps = np.arange(len(middle))
        ax.fill_between(steps, low, high, color=COLOURS[0], alpha=0.25, label="quartiles")
        ax.plot(steps, middle, ".-", color=COLOURS[0], label="median")
        over = "‖f‖" if found.has_data else "‖r‖ at first"
        _tidy(ax, title=found.level, xlabel="smoothing steps done", ylabel=f"‖r‖ / {over}")
        ax.set_ylim(bottom=0)
        _whole_steps(ax)
    axes[0].legend(frameon=False)
    return _png(figure)


def growth(traces: Sequence[Trace]) -> bytes:
    """The norm of u and of what each step adds to it, and the share of u that is zero."""
    figure, axes = _axes(len(traces))
    for ax, found in zip(axes, traces, strict=True):
        assert found.u_norm is not None and found.moved is not None and found.zeros is not None
        steps = np.arange(len(found.u_norm))
        ax.plot(steps, np.median(found.u_norm, 1), ".-", color=COLOURS[0], label="‖u‖")
        added = np.median(found.moved, 1)
        ax.plot(steps[1:], added, "x--", color=COLOURS[1], label="‖u − u before‖")
        _tidy(ax, title=found.level, xlabel="smoothing steps done", ylabel="norm (median)")
        ax.set_ylim(bottom=0)
        _whole_steps(ax)
        other = ax.twinx()
        other.plot(steps, 100 * found.zeros, ":", color=COLOURS[2], label="zeros of u")
        other.set(ylim=(0, 105), ylabel="zeros of u (%)")
        other.spines["top"].set_visible(False)
        lines = [*ax.lines, *other.lines]
    names = [line.get_label() for line in lines]
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)


def singular_values(operators: Sequence[Operator]) -> bytes:
    """The largest and the smallest singular value of each A over the frequencies."""
    figure, axes = _axes(2 * len(operators))
    for i, operator in enumerate(operators):
        found = operator.character
        pairs = ((found.largest, "largest"), (found.smallest, "smallest"))
        for ax, (values, which) in zip(axes[2 * i : 2 * i + 2], pairs, strict=True):
            theta = found.theta / np.pi
            edges = np.append(theta, theta[-1] + theta[1] - theta[0])
            mesh = ax.pcolormesh(edges, edges, values, cmap="viridis", rasterized=True)
            figure.colorbar(mesh, ax=ax, shrink=0.8, label="singular value")
            step = f", step {operator.step}" if operator.step else ""
            ax.set(title=f"A of {operator.level}{step}: {which}")
            ax.set(xlabel="θx / π", ylabel="θy / π", aspect="equal")
    return _png(figure)


def spectra(dynamics: Sequence[Dynamics]) -> bytes:
    """The leading eigenvalues of each step's error iteration in the complex plane."""
    names = list(dict.fromkeys(d.level for d in dynamics))
    figure, axes = _axes(len(names))
    circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    for ax, name in zip(axes, names, strict=True):
        ax.plot(circle.real, circle.imag, color="gray", linewidth=1)
        for d in (d for d in dynamics if d.level == name):
            values, colour = d.eigenvalues, COLOURS[(d.step - 1) % len(COLOURS)]
            ax.plot(values.real, values.imag, "o", color=colour, label=f"step {d.step}", ms=5)
        _tidy(ax, title=name, xlabel="real part", ylabel="imaginary part", aspect="equal")
        ax.legend(frameon=False, fontsize=8)
    return _png(figure)


def damping(dynamics: Sequence[Dynamics]) -> bytes:
    """What each step leaves of an error, by its frequency."""
    names = list(dict.fromkeys(d.level for d in dynamics))
    figure, axes = _axes(len(names))
    for ax, name in zip(axes, names, strict=True):
        ax.axhline(1, color="gray", linewidth=1)
        for d in (d for d in dynamics if d.level == name):
            middle = (np.arange(len(d.damping)) + 0.5) / len(d.damping)
            colour = COLOURS[(d.step - 1) % len(COLOURS)]
            ax.plot(middle, d.damping, ".-", color=colour, label=f"step {d.step}")
        _tidy(ax, title=name, xlabel="frequency / π", ylabel="‖E e‖ / ‖e‖", xlim=(0, 1))
        ax.set_ylim(0, 1.1 * max(1.0, *(d.damping.max() for d in dynamics if d.level == name)))
        ax.legend(frameon=False, fontsize=8)
    return _png(figure)


def ablations(found: Sequence[Ablation], accuracy: float) -> bytes:
    """The accuracy against the steps that a grid runs with the trained weights."""
    steps = [a for a in found if a.change == "steps"]
    names = list(dict.fromkeys(a.level for a in steps))
    figure, axes = _axes(len(names))
    for ax, name in zip(axes, names, strict=True):
        here = [a for a in steps if a.level == name]
        ax.axhline(100 * accuracy, color="gray", linewidth=1)
        ax.axvline(here[0].trained, color="gray", linewidth=1, linestyle=":")
        counts, values = [a.steps for a in here], [100 * a.accuracy for a in here]
        ax.plot(counts, values, "o-", color=COLOURS[0])
        title = f"{name} (trained with {here[0].trained})"
        _tidy(ax, title=title, xlabel="smoothing steps of this grid", ylabel="accuracy (%)")
        ax.set_ylim(0, 102)
        _whole_steps(ax)
    return _png(figure)


def maps(rows: Sequence[tuple[str, np.ndarray, Sequence[int]]], signed: bool) -> bytes:
    """Channels of one kind of feature, a row a grid.

    Args:
      rows: (title of the row, (H, W, channels), the channels' numbers).
      signed: whether 0 is in the middle of the colours.
    """
    from matplotlib.figure import Figure

    columns = max(len(numbers) for _, _, numbers in rows)
    size = (1.35 * columns + 0.6, 1.6 * len(rows) + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, values, numbers) in zip(axes, rows, strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.set_visible(False)
        for ax, number, image in zip(line, numbers, np.moveaxis(values, -1, 0), strict=False):
            top = float(np.abs(image).max()) or 1.0
            ax.imshow(
                image, cmap="RdBu_r" if signed else "viridis", vmin=-top if signed else 0, vmax=top
            )
            ax.set_title(f"channel {number}", fontsize=7)
            ax.set_visible(True)
        line[0].set_ylabel(title, fontsize=8)
    return _png(figure)


def activation(image: np.ndarray, evidence: np.ndarray, title: str) -> bytes:
    """An image, uint8 (H, W, C), and where on it the evidence for a class is, (h, w)."""
    figure, (left, right) = _axes(2, 0.9)
    shown = image[..., 0] if image.shape[-1] == 1 else image
    left.imshow(shown, cmap="gray")
    top = float(np.abs(evidence).max()) or 1.0
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    right.imshow(shown, cmap="gray", alpha=0.5)
    mesh = right.imshow(evidence, cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.6, extent=extent)
    figure.colorbar(mesh, ax=right, shrink=0.8, label="logit by place")
    for ax in (left, right):
        ax.set(xticks=[], yticks=[])
    left.set_title(title, fontsize=9)
    right.set_title("evidence for that class", fontsize=9)
    return _png(figure)
