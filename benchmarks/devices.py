"""How far training on several simulated devices is from training on one, in float32 and float64.

python benchmarks/devices.py --steps=20

Digits, MgNet[1,1]-[48]-B^l, batches of 16: the largest difference of a parameter, and of the loss.
"""

import argparse
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np

from mgnet_jax.config import default, validate
from mgnet_jax.data import sets
from mgnet_jax.training import sharding
from mgnet_jax.training.job import Job
from mgnet_jax.training.progress import say, table


def main() -> None:
    """Prints a row for each type, number of devices and sharding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    data, rows = sets.load(default().data), []
    for dtype in ("float32", "float64"):
        jax.config.update("jax_enable_x64", dtype == "float64")
        first = None
        for devices in (1, 2, 4, 8):
            for how in ("replicated", "sharded"):
                config = default()
                config.update_from_flattened_dict(
                    {
                        **{"model.spec": "MgNet[1,1]-[48]-B^l", "model.dtype": dtype},
                        **{"train.batch_size": 16, "train.epochs": 1, "train.sharding": how},
                    }
                )
                validate(config, devices)
                job = Job(config, data, sharding.make_mesh(jax.devices()[:devices]))
                state, metrics = job.train_steps(
                    job.initial_state(), job.no_metrics(), 0, args.steps
                )
                params = [np.asarray(x, np.float64) for x in jax.tree.leaves(state.params)]
                result = params, metrics.summary()["loss"]
                first = first or result
                rows.append(
                    {
                        "type": dtype,
                        "devices": devices,
                        "state": how,
                        "parameters": max(
                            np.abs(a - b).max() for a, b in zip(params, first[0], strict=True)
                        ),
                        "loss": abs(result[1] - first[1]),
                    }
                )
    say(f"{jax.__version__=} {jax.devices()[0].device_kind}, {args.steps} steps\n\n{table(rows)}")


if __name__ == "__main__":
    main()
