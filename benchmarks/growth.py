"""How the time of a training step grows with what a network and its batch are made of.

    python benchmarks/growth.py FOLDER
    python benchmarks/growth.py FOLDER --convolution=native

One at a time of MgNet[2,2,2,2]-[32]-B^l on 32 images of 32x32x3: the steps nu of every grid, the
channels, the images, their size, and devices (simulated by as many parts of this machine's cores,
which keep 32 images each). Writes growth.json and growth.png into FOLDER and prints a table. Beside
each time stands what the theory says of it: proportional from the first row on, and for the
channels, whose convolutions grow with their square, that.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

SPEC, SIZE, BATCH = "MgNet[{nu},{nu},{nu},{nu}]-[{c}]-B^l", 32, 32
CASES: dict[str, tuple[Sequence[int], Callable[[int], dict[str, int]], int]] = {
    "nu": ((2, 4, 8, 16, 32), lambda n: {"nu": n}, 1),
    "channels": ((32, 64, 128, 256, 512), lambda n: {"c": n, "batch": 8}, 2),
    "images": ((8, 16, 32, 64, 128), lambda n: {"batch": n}, 1),
    "pixels a side": ((16, 32, 64, 96), lambda n: {"size": n}, 2),
    "devices": ((1, 2, 4, 8), lambda n: {"devices": n, "batch": BATCH * n}, 1),
}


def measure(
    convolution: str,
    nu: int = 2,
    c: int = 32,
    batch: int = BATCH,
    size: int = SIZE,
    devices: int = 1,
) -> tuple[float, float]:
    """Seconds of a step, and to compile it, in a process of its own."""
    case = [SPEC.format(nu=nu, c=c), size, 3, batch, convolution]
    code = (
        "import json, statistics; from against_torch import compiled_in, ours\n"
        f"run = ours(*{case!r}, devices={devices}); run(1); count = max(1, round(1 / run(1)))\n"
        "print(json.dumps([statistics.median(run(count) for _ in range(3)), compiled_in[-1]]))"
    )
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(here), str(here.parent), environment.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    step, compiling = json.loads(done.stdout.splitlines()[-1])
    return step, compiling


def main() -> None:
    """Measures all cases."""
    from matplotlib.figure import Figure

    from mgnet_jax.training.progress import say, table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(CASES), help="which of them")
    parser.add_argument("--convolution", default="auto", help="model.convolution")
    args = parser.parse_args()
    folder, cases = args.folder, {name: CASES[name] for name in args.only.split(",")}
    rows: list[dict[str, object]] = []
    figure = Figure(figsize=(2.6 * len(cases), 3.2), layout="constrained")
    for place, (name, (values, options, power)) in enumerate(cases.items()):
        found = [measure(args.convolution, **options(n)) for n in values]
        times = [step for step, _ in found]
        theory = [times[0] * (n / values[0]) ** power for n in values]
        for n, (step, compiling), told in zip(values, found, theory, strict=True):
            rows.append(
                {
                    "": name,
                    "value": n,
                    "ms a step": 1e3 * step,
                    "in theory": 1e3 * told,
                    "s to compile": compiling,
                }
            )
        axes = figure.add_subplot(1, len(cases), place + 1)
        axes.loglog(values, [1e3 * t for t in times], "o-", base=2, label="measured")
        axes.loglog(values, [1e3 * t for t in theory], "--", base=2, label="in theory")
        axes.set(xlabel=name, ylabel="ms a step" if not place else "")
        axes.set_xticks(values, map(str, values))
        axes.legend(fontsize="small")
        say(table(rows[-len(values) :]) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(rows, indent=1) + "\n")
    figure.savefig(folder / "growth.png", dpi=100)


if __name__ == "__main__":
    main()
