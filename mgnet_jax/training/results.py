"""The scores of a run, for people: a line an epoch, and the table at the end."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.training.progress import table


def chosen_by(config: ConfigDict) -> str:
    """The score that chooses the best epoch."""
    return "validation_accuracy" if config.data.validation else "test_accuracy"


def epoch_line(epoch: int, scores: Mapping[str, float]) -> str:
    """The scores at the end of an epoch."""
    names = [name.removesuffix("_accuracy") for name in scores if name.endswith("_accuracy")]
    return f"epoch {epoch:3d}  " + "  ".join(
        f"{name} acc {100 * scores[f'{name}_accuracy']:.2f} % loss {scores[f'{name}_loss']:.4f}"
        + "".join(f" {measure} {value:.4f}" for measure, value in _measures(scores, name).items())
        for name in names
    )


def _measures(scores: Mapping[str, Any], split: str) -> dict[str, Any]:
    """What was measured of a split besides loss and accuracy, by name."""
    known = f"{split}_loss", f"{split}_accuracy"
    ours = {name: x for name, x in scores.items() if name.startswith(f"{split}_")}
    return {name.removeprefix(f"{split}_"): x for name, x in ours.items() if name not in known}


def results_table(config: ConfigDict, history: list[dict[str, Any]]) -> str:
    """The scores of `results_rows`, for the screen."""
    rows = results_rows(config, history)
    return table(rows) if rows else "metrics.jsonl has no scores"


def results_rows(config: ConfigDict, history: list[dict[str, Any]]) -> list[dict[str, object]]:
    """The last epoch's and the best epoch's scores, told apart; none if there are no scores.

    Where images are held out, they choose the best epoch; without, the test set does, as in the
    paper's tables, which makes its accuracy there an optimistic one. Of equal epochs the later one
    counts as best.
    """
    evals = [record for record in history if record["kind"] == "eval"]
    if not evals:
        return []
    name = chosen_by(config)
    best = max(evals, key=lambda record: (record[name], record["step"]))
    how = "held-out images" if config.data.validation else "the test set itself"
    rows: list[dict[str, object]] = []
    for title, record in (("last epoch", evals[-1]), (f"best epoch, chosen on {how}", best)):
        rows.append({"": title, "epoch": f"{record['epoch']:g}"} | as_row(record))
    return rows


def as_row(scores: Mapping[str, Any]) -> dict[str, object]:
    """Scores as the cells of a table, for people."""
    row: dict[str, object] = {}
    for split in ("validation", "test"):
        if f"{split}_accuracy" in scores:
            row[f"{split} accuracy"] = f"{100 * scores[f'{split}_accuracy']:.2f} %"
            loss = scores[f"{split}_loss"]  # null where it was not finite
            row[f"{split} loss"] = "not finite" if loss is None else f"{loss:.4f}"
            for name, value in _measures(scores, split).items():
                row[f"{split} {name}"] = "not finite" if value is None else f"{value:.4f}"
    return row
