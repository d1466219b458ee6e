"""Do classical accelerations need fewer steps or parameters for the same accuracy? A small study.

    python benchmarks/smoothers.py --data_dir=FOLDER --out=FOLDER

Trains MgNets on 10,000 images of CIFAR-100 with plain, damped, two-step, Chebyshev and polynomial
smoothing, and the V-cycle, with several seeds, each a run of its own that is gone on with; prints a
table and writes smoothers.csv. About a minute a run and step a grid on 2 cores.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import mgnet_jax
from mgnet_jax.main import main as mgnet
from mgnet_jax.models import file_name, parse

CHANNELS = "[8,16,32,64]"
NETWORKS = (
    *(f"MgNet[{n},{n},{n},{n}]-{CHANNELS}-B^l" for n in (1, 2, 3)),
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-damped",
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-two-step",
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-chebyshev(0.5,2)",
    f"MgNet[2,2,2,2]-{CHANNELS}-poly(2)",
    f"MgNet[2,2,2,2]-{CHANNELS}-poly(2)-two-step",
    f"MgNet-V[1,1,1,1]-{CHANNELS}-B^l",
)
RECIPE = (
    *("--config=cifar100", "--config.data.train_images=10000", "--config.train.epochs=12"),
    *("--config.train.batch_size=100", "--config.optim.learning_rate=0.1"),
    *("--config.optim.schedule=cosine", "--config.optim.nesterov=True"),
    *("--config.optim.warmup_epochs=1", "--config.eval.every_epochs=12"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is not trained yet; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="folder of CIFAR-100's files")
    parser.add_argument("--out", type=Path, default=Path("runs/smoothers"))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(arguments)
    rows = []
    for name in NETWORKS:
        scores = []
        for seed in range(args.seeds):
            workdir = args.out / f"{file_name(name)}-seed{seed}"
            given = (f"--config.model.spec={name}", f"--config.seed={seed}")
            data = f"--config.data.dir={args.data_dir}"
            if mgnet(["mgnet", *RECIPE, *given, data, f"--workdir={workdir}"]):
                raise SystemExit(f"{name}, seed {seed} did not end")
            records = [json.loads(x) for x in (workdir / "metrics.jsonl").open()]
            scores.append(100 * [r for r in records if r.get("test_accuracy")][-1]["test_accuracy"])
        costs = mgnet_jax.count(mgnet_jax.create(parse(name), 100), (32, 32, 3))
        row = {"network": name, "parameters": costs.parameters, "MMAC": round(costs.macs / 1e6, 1)}
        row |= {"seeds": len(scores), "accuracy %": round(statistics.fmean(scores), 2)}
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        rows.append(row | {"standard deviation": round(spread, 2)})
        with (args.out / "smoothers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))


if __name__ == "__main__":
    main()
