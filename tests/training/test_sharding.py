"""A mesh of any number of devices, the state copied or in parts, trains the same network.

Batches, batch norm and gradients are of the whole batch, so that only rounding differs; in float64
that is seen to be so. Each number of devices takes a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from mgnet_jax.training import sharding

RUN = """
import json, sys
import jax
import numpy as np
from mgnet_jax.config import default, validate
from mgnet_jax.data import sets
from mgnet_jax.training import checkpoint, sharding
from mgnet_jax.training.job import Job

jax.config.update("jax_enable_x64", True)
result, data = {}, None
for devices in map(int, sys.argv[2].split(",")):
    for how in ("replicated", "sharded"):
        for accumulate in (1, 2):
            config = default()
            config.update_from_flattened_dict({
                "model.spec": "MgNet[1,1]-[48]-B^l", "model.dtype": "float64",
                "train.batch_size": 16, "train.epochs": 1, "train.accumulate": accumulate,
                "train.sharding": how, "train.ema_decay": 0.9, "log.measures": "grad_norm",
            })
            validate(config, devices)
            data = data or sets.load(config.data)
            job = Job(config, data, sharding.make_mesh(jax.devices()[:devices]))
            state, metrics = job.train_steps(job.initial_state(), job.no_metrics(), 0, 20)
            leaves = jax.tree.leaves(state)
            name = f"{devices} {how} {accumulate}"
            np.savez(f"{sys.argv[1]}/{name}.npz", *map(np.asarray, leaves))
            result[name] = metrics.summary() | {
                "bytes": [sum(s.data.nbytes for x in leaves for s in x.addressable_shards
                              if s.device == d) for d in jax.devices()[:devices]],
                "computed": sharding.bytes_on_device(state, devices, how),
                "score": job.score(state) if accumulate == 1 else None,
            }
print(json.dumps(result))
"""


@pytest.fixture(scope="module", params=[pytest.param("1,2,8", marks=pytest.mark.slow)])
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sharding")
    flags = "--xla_force_host_platform_device_count=8"
    code = [sys.executable, "-c", RUN, str(folder), request.param]
    done = subprocess.run(
        code, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def arrays(folder: Path, name: str) -> list[np.ndarray]:
    with np.load(folder / f"{name}.npz") as saved:
        return [saved[key] for key in saved.files]


def test_devices_and_shardings_train_the_same_network(runs: Any) -> None:
    folder, result = runs
    assert len(result) >= 8
    for name, run in result.items():
        of = f"1 replicated {name[-1]}"
        for one, other in zip(arrays(folder, of), arrays(folder, name), strict=True):
            assert np.abs(one - other).max(initial=0) <= 1e-10, name
        assert run["grad_norm"] == pytest.approx(result[of]["grad_norm"], rel=1e-6)
        if run["score"]:
            assert run["score"] == pytest.approx(result[of]["score"], abs=1e-6)


def test_accumulation_is_another_training(runs: Any) -> None:
    """Batch norm sees parts; so the comparison above can fail."""
    folder, _ = runs
    one, two = (arrays(folder, f"1 replicated {n}") for n in (1, 2))
    assert max(np.abs(x - y).max(initial=0) for x, y in zip(one, two, strict=True)) > 1e-4


def test_the_state_takes_the_bytes_that_are_computed(runs: Any) -> None:
    _, result = runs
    for name, run in result.items():
        assert set(run["bytes"]) == {run["computed"]}, name
    most = max(int(name.split()[0]) for name in result)
    whole, part = (result[f"{most} {how} 1"]["computed"] for how in ("replicated", "sharded"))
    assert whole == result["1 sharded 1"]["computed"]
    assert whole / most < part < 1.2 * whole / most


def test_what_is_split() -> None:
    assert sharding.is_split((3, 3, 64, 64), 8, "sharded")
    assert not sharding.is_split((3, 3, 64, 64), 1, "sharded")
    assert not sharding.is_split((3, 3, 64, 100), 8, "sharded")
    assert not sharding.is_split((64,), 8, "sharded")
    assert not sharding.is_split((3, 3, 64, 64), 8, "replicated")


def test_devices_of_a_slice_stand_side_by_side() -> None:
    """As on several slices of a TPU, of which JAX gives the devices in any order."""
    devices = [
        SimpleNamespace(id=i, slice_index=i % 2, platform="gpu", device_kind="", process_index=i)
        for i in (3, 0, 2, 1, 4, 5)
    ]
    made: list[list[int]] = []

    def make(shape: Any, names: Any, types: Any, devices: Any) -> Any:
        made.append([d.id for d in devices])
        return SimpleNamespace(devices=np.array(devices))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "make_mesh", make)
        patch.setattr(sharding, "Mesh", lambda devices, names, axis_types: devices)
        mesh = sharding.make_mesh(devices)  # type: ignore[arg-type]
    assert [d.id for d in mesh] == [0, 2, 4, 3, 1, 5]  # type: ignore[attr-defined]
