"""The page about what is inside a trained network, and its figures."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mgnet_jax.analysis.inspection import Inspection
from mgnet_jax.analysis.maps import Channels, evidence, most_active
from mgnet_jax.reports import html, plots

KINDS = (
    ("u", "Features u after the last step", False),
    ("f", "Data f", True),
    ("r", "Residual r after the last step", True),
    ("x", "Features after the last block", True),
)


def figures(found: Inspection | None) -> dict[str, bytes]:
    """The plots by the names of their files, without `.png`; none without an inspection."""
    if found is None:
        return {}
    drawn = {"residual": plots.residuals(found.traces)}
    with_u = [trace for trace in found.traces if trace.u_norm is not None]
    if with_u:
        drawn["growth"] = plots.growth(with_u)
    drawn["singular_values"] = plots.singular_values(found.operators)
    drawn["spectra"] = plots.spectra(found.dynamics)
    drawn["damping"] = plots.damping(found.dynamics)
    if found.ablations:
        drawn["ablation"] = plots.ablations(found.ablations, found.accuracy)
    return drawn


def pictures(
    variables: Any, seen: Any, images: np.ndarray, said: Sequence[str], guesses: Sequence[int]
) -> dict[str, bytes]:
    """Feature maps and class activation of some images, by the names of their files.

    Args:
      variables: of the network.
      seen: its features of these images.
      images: uint8 (N, H, W, C).
      said: what is said of each.
      guesses: the class that each is taken for.
    """
    drawn = {}
    for i, (image, words, guess) in enumerate(zip(images, said, guesses, strict=True), 1):
        where = evidence(variables, seen, i - 1, guess)
        if where is not None:
            drawn[f"image{i}_evidence"] = plots.activation(image, where, words)
        active = most_active(seen, i - 1)
        for kind, _, signed in KINDS:
            rows = [_row(c) for c in active if c.kind == kind]
            if rows:
                drawn[f"image{i}_{kind}"] = plots.maps(rows, signed)
    return drawn


def _row(channels: Channels) -> tuple[str, np.ndarray, tuple[int, ...]]:
    return channels.level, channels.values, channels.numbers


def page(
    title: str, found: Inspection | None, why: str, drawn: dict[str, bytes], said: Sequence[str]
) -> str:
    """The page.

    Args:
      title: what it is about.
      found: the numbers; None where there is no system to look at.
      why: there is none.
      drawn: all figures.
      said: of each image shown.
    """
    parts = _of_the_system(found, drawn) if found else [html.paragraph(why)]
    for i, words in enumerate(said, 1):
        parts.append(html.heading(f"Image {i}: {words}"))
        if f"image{i}_evidence" in drawn:
            text = (
                "Where the evidence for that class is: the head's weights on the last features; "
                "the mean over the places and the head's bias are its logit."
            )
            parts += [
                html.paragraph(text),
                html.figure(drawn[f"image{i}_evidence"], "evidence by place"),
            ]
        for kind, name, _ in KINDS:
            if f"image{i}_{kind}" in drawn:
                text = f"{name}: the most active channels of each grid."
                parts += [html.paragraph(text), html.figure(drawn[f"image{i}_{kind}"], name)]
    return html.page(title, *parts)


def tables(found: Inspection) -> dict[str, list[dict[str, object]]]:
    """The numbers in short, a row a grid, a kernel, a step, a change."""
    steps: dict[str, dict[str, object]] = {}
    for a in found.ablations:
        if a.change == "steps":
            steps.setdefault(a.level, {"grid": a.level, "trained": a.trained})
            steps[a.level][f"{a.steps} steps"] = f"{100 * a.accuracy:.2f}"
    longest = max(steps.values(), key=len, default={})
    return {
        "residual": [_residual_row(found, i) for i in range(len(found.traces))],
        "A": [_operator_row(operator) for operator in found.operators],
        "steps": [_dynamics_row(d) for d in found.dynamics],
        "accuracy (%) by steps": [
            {name: row.get(name, "") for name in longest} for row in steps.values()
        ],
        "accuracy (%) after a change": [
            {"grid": a.level, "change": a.change, "accuracy": f"{100 * a.accuracy:.2f}"}
            for a in found.ablations
            if a.change != "steps"
        ],
    }


def _of_the_system(found: Inspection, drawn: dict[str, bytes]) -> list[str]:
    numbers = tables(found)
    parts = [
        html.paragraph(
            f"{found.images:,} test images, {100 * found.accuracy:.2f} % of them right. Each grid "
            f"iterates on A u = f, u ≥ 0; r = f − A u."
        ),
        html.heading("The residual"),
        html.paragraph(
            "How far each grid's steps solve its system: 1 is no better than u = 0. Where grids "
            "have no f of their own, the residual is compared with that of the grid's entry."
        ),
        html.figure(drawn["residual"], "relative residual by step"),
        html.table(numbers["residual"]),
        html.heading("The features u"),
    ]
    if "growth" in drawn:
        text = "u grows by what the steps add to it; the paper's constraint is u ≥ 0."
        parts += [
            html.paragraph(text),
            html.figure(drawn["growth"], "norms and zeros of u by step"),
        ]
    else:
        parts.append(html.paragraph("There is no u: A is not shared, or ReLU is on the sum."))
    parts += [
        html.heading("A as an operator"),
        html.paragraph(
            "Singular values of A's Fourier symbol at each frequency of a periodic grid of 16x16 "
            "points. Asymmetry: ‖A − Aᵀ‖ / 2‖A‖. Non-normality: ‖AᵀA − AAᵀ‖ / ‖A‖². Off Laplacian: "
            "the share of ‖A‖ that is no multiple, for each pair of channels, of the 5-point "
            "Laplacian. Effective rank: of how many channels the symbols are, on average."
        ),
        html.figure(drawn["singular_values"], "singular values by frequency"),
        html.table(numbers["A"]),
        html.heading("The steps as an iteration"),
        html.paragraph(
            "Around its state at the first image a step is linear: an error e becomes E e, for "
            "u ← u + B(f − A u) with E = I − B' A, B' having the ReLUs' active set and the batch "
            "norms' scales. The spectral radius of E says what is left of an error per step after "
            "many of the same; inside the circle it gets smaller."
        ),
        html.figure(drawn["spectra"], "leading eigenvalues"),
        html.paragraph(
            "What one step leaves of an error that is random in a band of frequencies; a smoother "
            "would leave little of the high ones."
        ),
        html.figure(drawn["damping"], "damping by frequency"),
        html.table(numbers["steps"]),
    ]
    if "ablation" not in drawn:
        text = "The steps go on from what the step before added: none can be left out or put in."
        return [*parts, html.paragraph(text)]
    parts += [
        html.heading("The same weights with other steps"),
        html.paragraph(
            "Accuracy when one grid runs fewer or more steps than it was trained with; those "
            "beyond are the last one again."
        ),
        html.figure(drawn["ablation"], "accuracy by steps"),
        html.table(numbers["accuracy (%) by steps"]),
        html.paragraph("And after a change of one grid; its steps and their number stay."),
        html.table(numbers["accuracy (%) after a change"]),
    ]
    return parts


def _residual_row(found: Inspection, i: int) -> dict[str, object]:
    trace = found.traces[i]
    exact = found.disagreement[trace.level]
    middle = trace.quartiles()[1]
    return {
        "grid": trace.level,
        "‖r‖/‖f‖ first": f"{middle[0]:.3f}",
        "last": f"{middle[-1]:.3f}",
        "smallest u": "-" if trace.least is None else f"{trace.least:g}",
        "zeros of u (%)": "-" if trace.zeros is None else f"{100 * trace.zeros[-1]:.1f}",
        "two forms of r apart": "-" if trace.disagreement is None else f"{trace.disagreement:.1e}",
        "in float64": "-" if exact is None else f"{exact:.1e}",
    }


def _operator_row(operator: Any) -> dict[str, object]:
    c = operator.character
    step = f", step {operator.step}" if operator.step else ""
    return {
        "A of": f"{operator.level}{step}",
        "largest": f"{c.largest.max():.3g}",
        "smallest": f"{c.smallest.min():.3g}",
        "condition": f"{c.condition:.3g}",
        "asymmetry": f"{c.asymmetry:.3f}",
        "non-normality": f"{c.nonnormality:.3f}",
        "off Laplacian": f"{c.off_laplacian:.3f}",
        "effective rank": f"{c.effective_rank:.1f}",
    }


def _dynamics_row(d: Any) -> dict[str, object]:
    half = len(d.damping) // 2
    return {
        "grid": d.level,
        "step": d.step,
        "state": d.state,
        "spectral radius": f"{d.radius:.4f}",
        "left of low frequencies": f"{np.mean(d.damping[: max(1, half)]):.3f}",
        "left of high frequencies": f"{np.mean(d.damping[half:]):.3f}",
    }


def steps_csv(found: Inspection) -> str:
    """A row a grid and place: the residual's quartiles, norms, zeros; empty without a value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        (
            *("level", "steps_done", "residual_25", "residual_50", "residual_75"),
            *("u_norm_median", "added_norm_median", "u_zero_share"),
        )
    )
    for trace in found.traces:
        for i, quartiles in enumerate(trace.quartiles().T):
            row: list[Any] = [trace.level, i, *map(float, quartiles), "", "", ""]
            if trace.u_norm is not None and trace.moved is not None and trace.zeros is not None:
                row[5], row[7] = float(np.median(trace.u_norm[i])), float(trace.zeros[i])
                row[6] = float(np.median(trace.moved[i - 1])) if i else ""
            writer.writerow(row)
    return file.getvalue()
