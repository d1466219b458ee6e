"""What checkpoints cost: saving, checking and restoring a state, and a run with and without.

    python benchmarks/checkpoints.py state FOLDER            a state of 144 million parameters
    python benchmarks/checkpoints.py small FOLDER            that of cifar10:small, of 589,338
    python benchmarks/checkpoints.py runs FOLDER TREE OTHER  digits, by the code of two trees

The large state is that of VGG-19 for ImageNet with momentum, 1.15 GB. Both are made of random
numbers; each figure is of three trials, the checkpoint in the page cache. The runs alternate, with
programs compiled before; seconds of whole commands and of the processors they used, and images a
second that their last records tell.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

CONVOLUTIONS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 3)
CONVOLUTIONS += ((256, 512), *[(512, 512)] * 7)
SMALL = "MgNet[1,1,1,2]-[16,32,64,128]-B^l"
LINEAR = ((25088, 4096), (4096, 4096), (4096, 1000))


def timed(what: str, seconds: list[float]) -> None:
    """Prints the times of some trials."""
    print(f"{what:<34} {' '.join(f'{s:7.2f}' for s in seconds)} s", flush=True)


def state(folder: Path, shapes: list[tuple[int, ...]]) -> None:
    """Times of a state with parameters of these shapes and their momentum."""
    from mgnet_jax.training import manifest, sharding
    from mgnet_jax.training.checkpoint import Checkpoints
    from mgnet_jax.training.manifest import Manifest
    from mgnet_jax.training.sharding import bytes_of
    from mgnet_jax.training.state import TrainState

    rng = np.random.default_rng(0)
    place = sharding.replicated(sharding.make_mesh())

    def made() -> dict[str, jax.Array]:
        arrays = (rng.standard_normal(s, np.float32) for s in shapes)
        return {f"layer{i}": jax.device_put(x, place) for i, x in enumerate(arrays)}

    step = jax.device_put(jnp.zeros((), jnp.int32), place)
    whole = TrainState(step, made(), {}, made(), jnp.zeros_like(step))
    print(f"{sum(x.size for x in whole.params.values()):,} parameters, {bytes_of(whole):,} bytes")
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), whole
    )
    saves: list[float] = []
    checks: list[float] = []
    restores: list[float] = []
    with Checkpoints(folder, 1, "off") as checkpoints:
        for i in range(1, 4):
            at = whole.replace(step=step + i)
            begun = time.monotonic()
            checkpoints.save(at, Manifest(i, {"id": "", "config": {}, "data": {}}, {}))
            saves.append(time.monotonic() - begun)
        place_of = checkpoints.folder / "3"
        found = manifest.read(place_of)
        sizes = sorted((size for size, _ in found.files.values()), reverse=True)
        print(f"{len(sizes)} files, the largest of {', '.join(f'{s:,}' for s in sizes[:4])} bytes")
        for _ in range(3):
            begun = time.monotonic()
            manifest.check(place_of, found)
            checks.append(time.monotonic() - begun)
            begun = time.monotonic()
            jax.block_until_ready(checkpoints.restore(found, like))
            restores.append(time.monotonic() - begun)
    timed("save, with its SHA-256", saves)
    timed("check of every byte (SHA-256)", checks)
    timed("restore", restores)
    share = statistics.median(checks) / statistics.median(restores)
    print(f"the check takes {100 * share:.0f} % of the time of the restore")


def shapes_of(spec: str) -> list[tuple[int, ...]]:
    """Those of the parameters of a network for CIFAR-10."""
    from mgnet_jax import create

    model = create(spec, 10)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return [x.shape for x in jax.tree.leaves(variables["params"])]


def runs(folder: Path, trees: list[Path]) -> None:
    """Times of whole runs by the code of several trees."""
    times: dict[Path, list[tuple[float, float, float]]] = {tree: [] for tree in trees}
    for i in range(6):
        for tree in trees:
            workdir = folder / f"{tree.name}{i}"
            line = [sys.executable, "-m", "mgnet_jax.main", f"--workdir={workdir}"]
            begun, used = time.monotonic(), processor_seconds()
            subprocess.run(
                [*line, f"--jit_cache={folder / 'programs'}"],
                cwd=tree,
                env=os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            seconds = time.monotonic() - begun
            last = (workdir / "metrics.jsonl").read_text().splitlines()[-2:]
            pace = next(r["images_per_second"] for r in map(json.loads, last) if len(r) > 5)
            if i:  # the first one compiles
                times[tree].append((seconds, processor_seconds() - used, pace))
    for tree, found in times.items():
        print(tree.name)
        columns = zip(*found, strict=True)
        for what, values in zip(("seconds", "processor s", "images/s"), columns, strict=True):
            row = " ".join(f"{x:8.1f}" for x in values)
            print(f"  {what:<12}{row}   median {statistics.median(values):8.1f}", flush=True)


def processor_seconds() -> float:
    """Of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(f"{time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs")
    what, folder, *trees = sys.argv[1:]
    if what == "state":
        state(Path(folder), [(3, 3, *s) for s in CONVOLUTIONS] + [*LINEAR])
    elif what == "small":
        state(Path(folder), shapes_of(SMALL))
    else:
        runs(Path(folder), [Path(tree).absolute() for tree in trees])
