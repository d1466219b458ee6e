"""The model card of an exported network, as Markdown."""

from collections.abc import Mapping

from mgnet_jax.models import PAPER
from mgnet_jax.weights.facts import Facts


def model_card(facts: Facts, parameters: int, files: Mapping[str, str]) -> str:
    """The card.

    Args:
      facts: of the network.
      parameters: how many are trained.
      files: what lies beside it, by name.
    """
    height, width, channels = facts.image_shape
    colour = "gray" if channels == 1 else "RGB"
    rows = {
        "network": f"`{facts.spec}`, stem `{facts.stem}`",
        "parameters": f"{parameters:,}",
        "images": f"{height} x {width}, {colour}, 8 bits; {_made(facts)}",
        "scale": f"(pixels / 255 - mean) / std, mean {_numbers(facts.mean)}, "
        f"std {_numbers(facts.std)}",
        "classes": _classes(facts),
        "trained on": facts.data or "not known",
        "from": facts.source or "not known",
    }
    if facts.epoch:
        rows["training"] = f"{facts.epoch:g} epochs, {facts.step:,} steps"
    scores = [
        f"| {name.replace('_', ' ')} | {_score(name, value)} |"
        for name, value in facts.scores.items()
        if isinstance(value, int | float)
    ]
    lines = [
        "---",
        "library_name: mgnet_jax",
        "pipeline_tag: image-classification",
        "tags: [image-classification, mgnet, jax, flax]",
        "---",
        "",
        f"# {facts.spec} on {facts.data or 'images'}",
        "",
        f"A network of {PAPER}, written by mgnet_jax.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
    ]
    if scores:
        lines += [f"Scored {facts.scored}:", "", "| | |", "|---|---|", *scores, ""]
    lines += [
        "```python",
        "import mgnet_jax",
        "",
        'network = mgnet_jax.load("FOLDER")  # this one',
        f"network.predict(images)  # uint8 (N, {height}, {width}, {channels}): probabilities",
        "```",
        "",
        "| file | |",
        "|---|---|",
        *(f"| {name} | {what} |" for name, what in files.items()),
        "",
    ]
    if facts.config:
        lines += ["The run's configuration, what is not a default included, is in model.json.", ""]
    made = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return "\n".join(lines) + (f"\nWritten with {made}.\n" if made else "")


def _made(facts: Facts) -> str:
    if facts.shorter_side:
        return f"the shorter side is scaled to {facts.shorter_side} pixels, the middle taken"
    return "images of another size are scaled"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _classes(facts: Facts) -> str:
    names = ", ".join(facts.class_names[:20])
    more = ", ... (all in model.json)" if len(facts.class_names) > 20 else ""
    return f"{facts.num_classes}{': ' if names else ''}{names}{more}"


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"
