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

from mgnet_jax.config import make_model
from mgnet_jax.models import count, file_name
from mgnet_jax.training.workdir import saved_config, saved_data


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
        accuracies, minutes, workdirs = zip(*runs, strict=True)
        info = saved_data(workdirs[0]).info
        costs = count(make_model(saved_config(workdirs[0]), info), info.image_shape)
        row = {
            "network": network,
            "parameters": costs.parameters,
            "MMAC": round(costs.macs / 1e6, 1),
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
) -> tuple[float, float, Path]:
    """Test accuracy of the last epoch in %, minutes from the start on, and the run's folder."""
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
    return 100 * last["test_accuracy"], last["seconds"] / 60, workdir
