"""The plan against the program that XLA makes for four simulated devices, and by hand.

The program's text has each collective once, in the body of the loop over steps or over the parts
of a batch; so it is compared with the plan of one step, of one part. Of arrays in parts the plan
says reduce-scatter where XLA for CPUs all-reduces; what is summed over the devices is compared as
one. It agrees to the byte

- replicated and sharded, in one part and in two, and for another family;
- with kernels shared by several steps, each of whose readings is reduced for itself (XLA for other
  devices may add first: the plan says "at most").

All-gathers of the weights agree to the byte too. Beside them XLA for CPUs gathers kernels of
stride 2, which it has whole, again in both passes; they are told apart by where they come from,
and bounded. With model.remat the plan is a bound: not all batch norms are computed again.
"""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, default, make_model, validate
from mgnet_jax.models import count, kernel_reads
from mgnet_jax.training import accelerators, plan

SMALL = {
    "model.spec": "MgNet[1,1]-[48]-B^l",
    "train.batch_size": 64,
    "train.epochs": 1,
    "log.measures": "top5",
}
CASES: dict[str, dict[str, Any]] = {
    "replicated": {},
    "replicated 2": {"train.accumulate": 2, "train.ema_decay": 0.9},
    "sharded": {"train.sharding": "sharded", "train.ema_decay": 0.9},
    "sharded 2": {"train.sharding": "sharded", "train.accumulate": 2},
    "shared": {"model.spec": "MgNet[3,2]-[48]-B^l"},
    "family": {"model.spec": "ResNet[1,1]-[16]-A^{l,i}-B^{l,i}", "log.measures": ""},
    "remat": {"model.remat": "steps"},
}
DEVICES = 4
RUN = """
import json, math, re, sys
import jax
from mgnet_jax.config import default, validate
from mgnet_jax.data import sets
from mgnet_jax.training import sharding
from mgnet_jax.training.job import Job

result, data = {}, None
for name, keys in json.loads(sys.argv[1]).items():
    config = default()
    config.update_from_flattened_dict(keys)
    validate(config, 4)
    data = data or sets.load(config.data)
    job = Job(config, data, sharding.make_mesh(jax.devices()[:4]))
    compiled = job.train_chunks[config.train.batch_size]
    found = []
    for line in compiled.as_text().splitlines():
        kind = r"(all-reduce|reduce-scatter|all-gather|all-to-all|collective-permute)"
        if match := re.search(rf"= (\\(?.*?\\)?) {kind}(?:-start)?\\(", line):
            arrays = re.findall(r"([a-z]+)(\\d+)\\[([\\d,]*)\\]", match[1])
            size = sum(
                int(bits) // 8 * math.prod(map(int, filter(None, shape.split(","))))
                for _, bits, shape in arrays
            )
            found.append([match[2], size, "sharding_constraint" in line])
    memory = compiled.memory_analysis()
    result[name] = {
        "collectives": found,
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
    }
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    keys = {name: SMALL | case for name, case in CASES.items()}
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    code = [sys.executable, "-c", RUN, json.dumps(keys)]
    done = subprocess.run(
        code, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def configured(keys: dict[str, Any]) -> ConfigDict:
    config = default()
    config.update_from_flattened_dict(SMALL | keys)
    return config


def planned(keys: dict[str, Any], devices: int = DEVICES, kind: str = "h100") -> plan.Plan:
    config = configured(keys)
    info = validate(config, devices)
    model = make_model(config, info)
    costs = count(model, info.image_shape)
    found = accelerators.find(kind)
    return plan.make_plan(config, model, info, costs, found, devices, 0.5, 100.0)


def total(found: Any, *kinds: str, constraint: bool | None = None) -> int:
    return sum(s for k, s, c in found if k in kinds and constraint in (None, c))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "remat"])
def test_bytes_summed_over_the_devices_are_those_of_the_program(compiled: Any, name: str) -> None:
    traffic, found = planned(CASES[name]).traffic, compiled[name]["collectives"]
    parts = CASES[name].get("train.accumulate", 1)
    assert total(found, "reduce-scatter") == 0  # on CPUs; else its outputs are parts
    assert total(found, "all-reduce") * parts == traffic.reduced
    assert {kind for kind, _, _ in found} <= {"all-reduce", "all-gather"}


@pytest.mark.slow
def test_remat_is_bounded(compiled: Any) -> None:
    traffic, found = planned(CASES["remat"]).traffic, compiled["remat"]["collectives"]
    assert traffic.reduced - traffic.moments // 2 < total(found, "all-reduce") <= traffic.reduced


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bytes_gathered_are_those_of_the_program(compiled: Any, name: str) -> None:
    traffic, found = planned(CASES[name]).traffic, compiled[name]["collectives"]
    assert total(found, "all-gather", constraint=True) == traffic.gathered
    assert bool(traffic.gathered) == ("sharded" in name)
    kernel = 4 * 9 * 48 * 48  # Pi and R, in both passes
    assert total(found, "all-gather", constraint=False) <= 4 * kernel * bool(traffic.gathered)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_memory_is_near_that_of_the_program_and_not_less(compiled: Any, name: str) -> None:
    """Arguments: the state to the byte, with the images, their order and the metrics."""
    memory, run = planned(CASES[name]).memory, compiled[name]
    rest = run["arguments"] - memory.state
    assert 1437 * 64 < rest < 1437 * 64 + 10_000
    measured = run["arguments"] + run["temporary"]
    assert measured <= memory.total <= 1.6 * measured


def test_sharding_changes_what_it_should() -> None:
    whole, parts = (planned({"train.sharding": how}) for how in ("replicated", "sharded"))
    assert parts.memory.state < whole.memory.state / 3
    assert (whole.memory.gathered, parts.memory.gathered) == (0, parts.traffic.gathered)
    assert parts.traffic.gradients + parts.traffic.scattered == whole.traffic.gradients
    assert parts.traffic.sent == whole.traffic.sent  # an all-reduce is both halves
    assert parts.traffic.scattered == parts.traffic.gathered == 6 * 4 * 9 * 48 * 48


def test_one_device_exchanges_nothing() -> None:
    one = planned({}, devices=1)
    assert one.traffic.sent == one.communication_s == one.memory.gradients == 0
    assert one.hours == pytest.approx(one.steps * one.compute_s / 3600)


def test_steps_and_seconds_by_hand() -> None:
    """1,437 digits in batches of 64: 22 steps; 13 images are left over, and used as one more."""
    keys = {"train.epochs": 3, "data.last_batch": "drop", "train.batch_size": 64}
    made = planned(keys, devices=2)
    macs = made.image_flops / 6
    assert made.steps == 3 * 22
    assert made.batch == 32
    assert made.compute_s == pytest.approx(32 * 6 * macs / (0.5 * 494e12))
    assert made.communication_s == pytest.approx(2 * made.traffic.reduced / 2 / 450e9)
    assert made.hours == pytest.approx(66 * made.step_s / 3600)
    assert made.cores is None
    used = planned(keys | {"data.last_batch": "use"}, devices=1)
    dropped = planned(keys, devices=1)
    assert used.steps == 3 * 23
    assert used.hours / dropped.hours == pytest.approx(1437 / 1408)


def test_photographs_take_cores_and_lie_on_the_device_in_part() -> None:
    keys = {"data.name": "imagenet", "data.source": "tfds", "model.stem": "imagenet"}
    made = planned(keys, devices=2, kind="tpu-v4")
    assert made.cores == pytest.approx(made.images_per_second / 100)
    assert made.images_per_second == pytest.approx(64 / made.step_s)
    assert made.memory.step.data == 2 * 32 * 224 * 224 * 3  # two batches ahead
    assert made.batches.size == 1_281_167


def test_bfloat16_has_its_own_peak() -> None:
    wide, half = (planned({"model.dtype": dtype}) for dtype in ("float32", "bfloat16"))
    assert wide.compute_s / half.compute_s == pytest.approx(989 / 494)
    assert planned({"model.remat": "steps"}).image_flops == 4 / 3 * wide.image_flops


def test_what_does_not_fit() -> None:
    made = planned({})
    small = dataclasses.replace(made.kind, memory=made.memory.total)  # of which JAX has 3/4
    assert made.fits
    assert not dataclasses.replace(made, kind=small).fits


def test_kernels_are_counted_each_time_they_are_read() -> None:
    """A and B of each grid are read in every step; a loop counts as the same written out."""
    config = configured({"model.spec": "MgNet[3,2]-[48]-B^l"})
    info = validate(config)
    model = make_model(config, info)
    by_hand = 9 * 1 * 48 + (2 * 3 + 2 + 2 * 2) * 9 * 48 * 48 + 48 * 10
    for unroll in (1, 4):
        assert kernel_reads(model.clone(unroll=unroll), info.image_shape) == by_hand


def test_unknown_kinds_and_types_are_named() -> None:
    with pytest.raises(ConfigError, match=r"gpu9 is not known; there are v100, .*tpu-v6e"):
        accelerators.find("gpu9")
    with pytest.raises(ConfigError, match="float64"):
        accelerators.peak(accelerators.find("h100"), "float64")


@pytest.mark.parametrize("kind", accelerators.KINDS.values(), ids=accelerators.KINDS)
def test_kinds_are_plausible(kind: accelerators.Accelerator) -> None:
    """Units: a missing factor of 1000 or 8 is seen."""
    assert 1e13 < kind.float32 <= kind.bfloat16 < 3e15
    assert 15e9 < kind.memory < 300e9
    assert 1e11 < kind.link < 1e12
