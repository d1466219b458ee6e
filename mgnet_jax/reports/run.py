"""The report of a run: curves, configuration, confusion, examples, network, environment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mgnet_jax.config import KEYS, changed, flatten, repeating
from mgnet_jax.data.cut import Photograph
from mgnet_jax.data.info import ImageSet
from mgnet_jax.models import count
from mgnet_jax.reports import html
from mgnet_jax.training.curves import plot_curves
from mgnet_jax.training.describe import model_summary
from mgnet_jax.training.job import Job
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.metrics import read_metrics
from mgnet_jax.training.outcomes import Outcomes
from mgnet_jax.training.results import results_rows

SHOWN = 12  # examples of a kind
LARGEST = 30  # classes of a confusion matrix that can be read


def page(
    workdir: Path, config: ConfigDict, job: Job, saved: Manifest, seen: Outcomes | None, why: str
) -> str:
    """The page.

    Args:
      workdir: of the run.
      config: its configuration.
      job: what it is.
      saved: the checkpoint that the outcomes are of.
      seen: what it makes of the test images; None without them.
      why: there are none.
    """
    history = read_metrics(workdir)
    curves = workdir / "curves.png"
    if not curves.exists():
        plot_curves(history, curves, f"{job.model.spec} on {config.data.name}")
    title = f"{job.model.spec} on {config.data.name}"
    epoch = saved.step / job.steps_per_epoch
    parts = [
        html.paragraph(
            f"Run {workdir.resolve().name}, checkpoint of step {saved.step:,} (epoch {epoch:g})."
        ),
        html.heading("Scores"),
        html.table(results_rows(config, history)),
        html.heading("Curves"),
        html.plot(curves, "loss and accuracy by epoch"),
    ]
    parts += _examples(job, seen) if seen else [html.paragraph(f"No examples: {why}")]
    rows = [{"key": name, "value": repr(value)} for name, value in changed(config).items()]
    parts += [
        html.heading("Configuration, where it is not the default"),
        html.table(rows),
        html.heading("To repeat it"),
        html.preformatted(repeating(config)),
        html.heading("Network"),
        html.preformatted(
            model_summary(job.model, job.data.info, count(job.model, job.data.info.image_shape))
        ),
        html.heading("Environment"),
        html.table([{"": name, "version": value} for name, value in saved.versions.items()]),
        html.paragraph(f"Batches were split over {saved.devices} device(s)."),
    ]
    return html.page(title, *parts)


def _examples(job: Job, seen: Outcomes) -> list[str]:
    """The confusion, and the images that the network is most sure of."""
    names = job.data.names
    counts = seen.confusion(len(names))
    parts = [html.heading(f"Confusion, {len(seen.labels):,} test images")]
    if len(names) <= LARGEST:
        parts.append(html.confusion(counts, names))
    else:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:20]
        pairs = [np.unravel_index(i, wrong.shape) for i in order if wrong.flat[i]]
        parts.append(
            html.table(
                [
                    {"class": names[i], "taken for": names[j], "images": int(wrong[i, j])}
                    for i, j in pairs
                ]
            )
        )
    for right, title in ((False, "Most surely wrong"), (True, "Most surely right")):
        chosen = [int(i) for i in seen.most_sure(right, SHOWN)]
        if not chosen:
            continue
        captions = []
        for i in chosen:
            said = f"{names[seen.taken_for[i]]} {100 * seen.probability[i]:.1f} %"
            captions.append(said if right else f"{said}, is {names[seen.labels[i]]}")
        parts += [html.heading(title), html.pictures([_image(job, i) for i in chosen], captions)]
    return parts


def _image(job: Job, i: int) -> np.ndarray:
    """A test image as the network sees it, uint8 (H, W, C)."""
    test: Any = job.data.test
    if isinstance(test, ImageSet):
        return test.images[i]
    jpeg, label = test[i]
    return job.cut.central(Photograph(jpeg, label, test, i))[0]


def compare(runs: dict[str, tuple[ConfigDict, list[dict[str, Any]]]], overlaid: Path) -> str:
    """The page that compares runs.

    Args:
      runs: {name: (configuration, records)}.
      overlaid: the picture of their curves.
    """
    return html.page(
        f"{len(runs)} runs",
        html.heading("Scores"),
        html.table(scores(runs)),
        html.heading("Configuration, where they differ"),
        html.table(settings(runs)),
        html.heading("Test accuracy by epoch"),
        html.plot(overlaid, "test accuracy by epoch of each run"),
    )


def scores(runs: dict[str, tuple[ConfigDict, list[dict[str, Any]]]]) -> list[dict[str, object]]:
    """A row a run: its last and its best epoch."""
    rows: list[dict[str, object]] = []
    for name, (config, history) in runs.items():
        row: dict[str, object] = {"run": name, "network": config.model.spec}
        for found in results_rows(config, history):
            when = str(found[""]).split(",")[0]
            row[f"{when}"] = f"{found['test accuracy']} (epoch {found['epoch']})"
        rows.append(row)
    return rows


def settings(runs: dict[str, tuple[ConfigDict, list[dict[str, Any]]]]) -> list[dict[str, object]]:
    """A row a key in which they differ."""
    flat = {name: flatten(config) for name, (config, _) in runs.items()}
    differing = [k for k in KEYS if len({json.dumps(f.get(k)) for f in flat.values()}) > 1]
    return [{"key": k, **{name: repr(f.get(k)) for name, f in flat.items()}} for k in differing]
