"""Seconds to compile and to run a training step, for forms, unrolling, types and convolutions.

    python benchmarks/step_time.py --spec='MgNet[2,2,2,2]-[16]-B^l' --image=28,28,1 --batch=128 \
        --out=benchmarks/results/NAME.json

Every case runs in a process of its own, chunks of steps on random images as the training loop runs
them, without the jit cache; the time of a step is the median over the chunks after the first.
"""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from mgnet_jax import create
from mgnet_jax.config import default
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.data.info import ImageSet
from mgnet_jax.data.order import Batches
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.feed import ResidentTraining
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state


def measure(
    spec: str, image: tuple[int, int, int], batch: int, chunk: int, chunks: int, **options: object
) -> dict[str, float]:
    """Compiles and runs one case."""
    channels = image[2]
    model, optim = create(spec, 10, **options), default().optim
    optimizer = make_optimizer(optim, make_schedule(optim, 10, 1000))
    mesh = sharding.make_mesh()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (chunk * batch, *image), np.uint8)
    labels = rng.integers(0, 10, chunk * batch).astype(np.int32)
    step = steps.make_train_step(
        model,
        optimizer,
        mesh,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        augmentation=Augmentation(crop_padding=2, flip=True),
        label_smoothing=0.0,
        ema_decay=0.0,
    )
    state = jax.jit(lambda key: create_state(model, optimizer, key, image))(jax.random.key(0))
    feed = ResidentTraining(ImageSet(images, labels), Batches(chunk * batch, batch), mesh)
    arrays, key = feed.arrays(0, min(chunk, feed.batches)), jax.random.key(1)
    begun = time.perf_counter()
    train = steps.make_train_chunk(step, feed, mesh)
    run = train.lower(state, Metrics.zero(), arrays, 1, key).compile()
    compile_s, times = time.perf_counter() - begun, []
    for _ in range(chunks + 1):
        begun = time.perf_counter()
        state, metrics = run(state, Metrics.zero(), arrays, chunk, key)
        jax.block_until_ready(metrics)
        times.append((time.perf_counter() - begun) / chunk)
    seconds = statistics.median(times[1:])
    return {
        "compile_s": round(compile_s, 2),
        "step_ms": round(1e3 * seconds, 2),
        "images_per_s": round(batch / seconds, 1),
        "working_MiB": round(run.memory_analysis().temp_size_in_bytes / 2**20, 1),
    }


def main() -> None:
    """Runs the cases of the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="MgNet[2,2,2,2]-[16]-B^l")
    parser.add_argument("--image", default="28,28,1", help="height,width,channels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=5, help="steps of a compiled call")
    parser.add_argument("--chunks", type=int, default=5)
    parser.add_argument("--form", default="dual,direct")
    parser.add_argument("--unroll", default="1,2,4")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--convolution", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    image = tuple(int(n) for n in args.image.split(","))
    if args.one:
        case = {
            "form": args.form,
            "unroll": int(args.unroll),
            "dtype": args.dtype,
            "remat": args.remat,
            "convolution": args.convolution,
        }
        print(json.dumps(measure(args.spec, image, args.batch, args.chunk, args.chunks, **case)))
        return
    rows = []
    names = ("form", "unroll", "dtype", "remat", "convolution")
    for values in itertools.product(*(getattr(args, name).split(",") for name in names)):
        case = dict(zip(names, values, strict=True))
        command = [
            sys.executable,
            __file__,
            "--one",
            f"--spec={args.spec}",
            f"--image={args.image}",
            f"--batch={args.batch}",
            f"--chunk={args.chunk}",
            f"--chunks={args.chunks}",
            *(f"--{k}={v}" for k, v in case.items()),
        ]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rows.append({**case, **json.loads(out.splitlines()[-1])})
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if args.out:
        device = jax.devices()[0]
        about = {
            "spec": args.spec,
            "image": image,
            "batch": args.batch,
            "jax": jax.__version__,
            "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"),
            "device": f"{jax.device_count()} x {device.device_kind}",
            "processor": f"{platform.machine()}",
        }
        args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
