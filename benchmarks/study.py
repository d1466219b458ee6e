"""Trains networks alike, each with several seeds, and compares them: what studies here share."""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mgnet_jax
from mgnet_jax.models import file_name
from mgnet_jax.training.workdir import saved_config


def options(description: str, name: str) -> argparse.ArgumentParser:
    """A parser of the options that studies have; `name` is the study's."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="folder of the set's files")
    parser.add_argument("--out", type=Path, default=Path("runs", name), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    return parser


def study(
    name: str, networks: Sequence[str], recipe: Sequence[str], args: argparse.Namespace
) -> None:
    """Trains what is not trained yet; prints a table and writes <name>.csv after each network.

    Args:
      name: of the study.
      networks: by their names in the notation.
      recipe: arguments of the command line that all runs have.
      args: what `options` has read; a run that was stopped is gone on with.
    """
    rows: list[dict[str, Any]] = []
    for network in networks:
        runs = [_trained(network, recipe, args, seed) for seed in range(args.seeds)]
        accuracies, minutes, costs = zip(*runs, strict=True)
        row = {
            "network": network,
            "parameters": costs[0].parameters,
            "MMAC": round(costs[0].macs / 1e6, 1),
            "seeds": args.seeds,
            "accuracy %": round(statistics.fmean(accuracies), 2),
            "standard deviation": round(statistics.stdev(accuracies), 2) if args.seeds > 1 else "",
            "minutes": round(statistics.fmean(minutes), 1),
        }
        rows.append(row)
        with (args.out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, row)
            writer.writeheader()
            writer.writerows(rows)
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()))


def _trained(
    network: str, recipe: Sequence[str], args: argparse.Namespace, seed: int
) -> tuple[float, float, mgnet_jax.models.Costs]:
    """Test accuracy of the last epoch in %, minutes from the start on, and the network's costs."""
    workdir = args.out / f"{file_name(network)}-seed{seed}"
    own = (f"--config.model.spec={network}", f"--config.seed={seed}", f"--workdir={workdir}")
    own += (f"--config.data.dir={args.data_dir}",)
    command = (sys.executable, "-m", "mgnet_jax.main", *recipe, *own)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{network}, seed {seed} did not end")
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    last: dict[str, float] = {}
    for record in records:
        last |= record
    info = json.loads((workdir / "data.json").read_text())
    stem = saved_config(workdir).model.stem
    model = mgnet_jax.create(network, info["num_classes"], stem)
    costs = mgnet_jax.count(model, tuple(info["image_shape"]))
    return 100 * last["test_accuracy"], last["seconds"] / 60, costs
