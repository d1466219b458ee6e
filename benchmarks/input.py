"""Images a second of one core that photographs are read, cropped and handed over with.

    python benchmarks/input.py --folder=FOLDER --out=benchmarks/results/NAME.txt

On one processor, in turn, over the JPEGs below FOLDER, several times each, the median of them. The
seconds are those that the process computed, of all its threads, so that other work does not count:

- a plain pipeline, as people write it: Pillow decodes, crops at random and resizes, one photograph
  after the other, NumPy stacks;
- the bare loop of our decoder and crop, one after the other, stacked;
- the stream that training reads (`mgnet_jax.data.stream`), with one thread, as batches that are put
  on the device of JAX, with the fast decoder and with that of Pillow.
"""

import argparse
import functools
import io
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from mgnet_jax.data.cut import Cut
from mgnet_jax.data.order import Batches
from mgnet_jax.data.photographs import codec
from mgnet_jax.data.photographs.folders import Files
from mgnet_jax.data.stream import Reading
from mgnet_jax.training import sharding
from mgnet_jax.training.feed import training_feed

SIZE, BATCH, WARM = 224, 25, 8
MODULES = {
    **{"jax": "jax", "grain": "grain", "pillow": "PIL", "simplejpeg": "simplejpeg"},
    "opencv-python-headless": "cv2",
}
"""Packages that matter, and what they are imported as."""


def plain(files: Files, count: int) -> None:
    """RandomResizedCrop with Pillow and random, as in many training scripts."""
    rng = np.random.default_rng(0)
    for first in range(0, count, BATCH):
        batch = []
        for i in range(first, min(first + BATCH, count)):
            image = Image.open(io.BytesIO(files.raw(i % len(files)))).convert("RGB")
            top, left, h, w = codec.crop_box(image.height, image.width, 0.08, rng)
            image = image.crop((left, top, left + w, top + h))
            batch.append(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
        jax.block_until_ready(jax.device_put(np.stack(batch)))


def bare(files: Files, count: int, decoder: str) -> None:
    """Our decoder and crop in a loop."""
    rng = np.random.default_rng(0)
    for first in range(0, count, BATCH):
        batch = [
            codec.random_crop(files[i % len(files)][0], (SIZE, SIZE), 3, 0.08, rng, decoder)
            for i in range(first, min(first + BATCH, count))
        ]
        jax.block_until_ready(jax.device_put(np.stack(batch)))


def streamed(files: Files, count: int, decoder: str) -> float:
    """Seconds of so many images, once the stream runs; nothing else is computed."""
    cut = Cut((SIZE, SIZE, 3), 0.08, 256, decoder)
    order = Batches(len(files), BATCH)
    feed = training_feed(files, order, cut, Reading(threads=1), sharding.make_mesh())
    for step in range(WARM + count // BATCH):
        if step == WARM:
            begun = time.process_time()
        jax.block_until_ready(feed.arrays(step, 1))
    seconds = time.process_time() - begun
    feed.close()
    return seconds


def rate(function: Callable[[int], float | None], count: int) -> float:
    """Images a second."""
    begun = time.process_time()
    seconds = function(count)
    return count / (seconds or time.process_time() - begun)


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    names = sorted(
        str(path.relative_to(options.folder))
        for path in options.folder.rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg")
    )
    names *= -(-10_000 // len(names))  # as many as a data set has: grain shuffles few slowly
    files = Files(str(options.folder), names, np.zeros(len(names), np.int32))
    decoders = ["pillow"]
    if all(find_spec(name) for name in ("simplejpeg", "cv2")):
        decoders.insert(0, "fast")
    cases: dict[str, Callable[[int], float | None]] = {
        "plain Pillow pipeline": functools.partial(plain, files)
    }
    for decoder in decoders:
        cases[f"bare loop, {decoder}"] = functools.partial(bare, files, decoder=decoder)
        cases[f"stream, {decoder}"] = functools.partial(streamed, files, decoder=decoder)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for function in cases.values():
        rate(function, BATCH)  # imports, caches
    for _ in range(options.rounds):
        for name, function in cases.items():
            rates[name].append(rate(function, options.count))
    median = {name: statistics.median(values) for name, values in rates.items()}
    base = median["plain Pillow pipeline"]
    size = sum(len(files.raw(i)) for i in range(100)) / 100
    lines = [
        f"python benchmarks/input.py --folder=FOLDER --count={options.count} "
        f"--rounds={options.rounds}",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        f"photographs of {size / 1024:.0f} KiB on average, {SIZE}x{SIZE} crops, "
        f"{options.count} images a round, {options.rounds} rounds, one core",
        ", ".join(f"{name} {version(name)}" for name in MODULES if find_spec(MODULES[name])),
        "",
        f"{'':24s} {'images/s':>9s} {'of plain':>9s}   rounds",
    ]
    for name, value in median.items():
        spread = " ".join(f"{math.floor(v)}" for v in rates[name])
        lines.append(f"{name:24s} {value:9.1f} {value / base:9.2f}   {spread}")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
