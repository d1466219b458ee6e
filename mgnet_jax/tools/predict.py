"""Says what a trained network sees in images."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgnet_jax.tools.tool import Command, Flag

NAME = "predict"
HELP = "class names and probabilities of images, by a trained network"
FLAGS = (
    Flag("images", "", "a file, a folder (with all below it), or a pattern as in 'photos/*.jpg'"),
    Flag("top", 5, "classes named for each image"),
    Flag("batch", 64, "images computed at once"),
    Flag("checkpoint", "last", "of a run: last, best, or a step"),
    Flag("out", "", "file of JSON lines; default: predictions.jsonl in the workdir; -: the screen"),
)
SHOWN = 40  # images in the table on the screen


def run(command: Command) -> None:
    """Predicts the images that --images names; --workdir is a run, an export or a PyTorch file.

    Raises:
      CheckpointError: the run has no such checkpoint.
      DataError: there are no images, or none of them can be read.
      WeightsError: there are no weights in the workdir.
    """
    from mgnet_jax.trained.network import load
    from mgnet_jax.training.files import write
    from mgnet_jax.training.progress import say, table

    flags, workdir = command.flags, command.workdir
    paths = find_images(flags["images"])
    network = load(workdir, flags["checkpoint"])
    top = max(1, min(flags["top"], network.facts.num_classes))
    screen, out = flags["out"] == "-", Path(flags["out"] or workdir / "predictions.jsonl")
    if workdir.is_file() and not flags["out"]:
        out = Path("predictions.jsonl")
    lines: list[str] = []
    rows: list[dict[str, object]] = []
    skipped: list[dict[str, Any]] = []
    for record in predictions(network, paths, top, flags["batch"]):
        lines.append(json.dumps(record))
        if screen:
            say(lines[-1])
        if "error" in record:
            skipped.append(record)
        elif len(rows) < SHOWN:
            rows.append(as_row(record))
    if not screen:
        write(out, "\n".join(lines) + "\n")
        say(f"{network.spec}, {network.facts.source}\n")
        say(table(rows))
        if len(lines) - len(skipped) > SHOWN:
            say(f"... and {len(lines) - len(skipped) - SHOWN:,} more")
        for record in skipped[:SHOWN]:
            say(f"skipped {record['image']}: {record['error']}")
        say(f"\n{len(lines) - len(skipped):,} images, {len(skipped):,} skipped; {out}")
    if len(skipped) == len(lines):
        from mgnet_jax.data.info import DataError

        raise DataError(f"--images={flags['images']}: none of {len(lines):,} files is an image")


def find_images(name: str) -> list[Path]:
    """The files that are meant, in order of their names; hidden ones are left out of folders.

    Raises:
      DataError: there are none.
    """
    from mgnet_jax.data.info import DataError

    if not name:
        raise DataError(
            "--mode=predict needs --images=FILE, FOLDER or a pattern as in 'photos/*.jpg'"
        )
    path = Path(name).expanduser()
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file()]
        found = [p for p in found if not any(x.startswith(".") for x in p.relative_to(path).parts)]
    elif path.is_file():
        found = [path]
    else:
        found = [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if p.is_file()]
    if not found:
        raise DataError(f"--images={name}: there is no file")
    return found


def predictions(network: Any, paths: list[Path], top: int, size: int) -> Iterator[dict[str, Any]]:
    """A record of each file, in order: its most probable classes, or why it was skipped.

    Args:
      network: the trained network.
      paths: of the files.
      top: classes of each.
      size: images computed at once.
    """
    import numpy as np

    from mgnet_jax.data.info import DataError
    from mgnet_jax.data.photographs.single import read_image

    facts, size = network.facts, max(1, size)
    for begin in range(0, len(paths), size):
        records: list[dict[str, Any]] = []
        images = []
        for path in paths[begin : begin + size]:
            try:
                images.append(read_image(path.read_bytes(), facts.image_shape, facts.shorter_side))
                records.append({"image": str(path)})
            except (DataError, OSError) as error:
                records.append({"image": str(path), "error": str(error)})
        found = iter(network.predict(np.stack(images), size) if images else ())
        for record in records:
            if "error" not in record:
                p = next(found)
                best = np.argsort(-p, kind="stable")[:top]
                record["classes"] = [network.class_names[i] for i in best]
                record["probabilities"] = [float(p[i]) for i in best]
            yield record


def as_row(record: dict[str, Any]) -> dict[str, object]:
    """A record as a row of a table."""
    pairs = zip(record["classes"], record["probabilities"], strict=True)
    words = [f"{name} {100 * p:.1f} %" for name, p in pairs]
    return {"image": record["image"], "class": words[0], "then": ", ".join(words[1:])}
