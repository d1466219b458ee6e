"""Several processes train the same network as one; what stops one of them stops all, in time."""

import json
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from launched import Processes, run_code, saved
from photos import write_classes

from mgnet_jax.data.sources import DataSet
from mgnet_jax.tools.prepare import prepare
from mgnet_jax.training import launch
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.job import Job
from mgnet_jax.training.workdir import saved_config, saved_data

DIGITS = (
    "--config.model.spec=MgNet[1,1]-[4]-B^l",
    "--config.model.dtype=float64",
    "--config.train.batch_size=360",
    "--config.optim.warmup_epochs=0.5",
    "--config.train.epochs=3",
    "--config.log.every_steps=2",
)
LONG = (*DIGITS, "--config.train.epochs=2000", "--config.checkpoint.every_steps=5")


def newest(workdir: Path) -> tuple[int, Any]:
    """The step and the state of the newest checkpoint."""
    config, kept = saved_config(workdir), saved_data(workdir)
    assert config and kept
    with jax.enable_x64(True), Checkpoints(workdir) as checkpoints:
        found = checkpoints.find()
        like = Job(config, DataSet(kept.info, None, None, ())).abstract_state
        state = checkpoints.restore(found, like)
        return found.step, jax.tree.map(np.asarray, state)


def final(workdir: Path) -> dict[str, Any]:
    """The newest state, and the records without times."""
    step, state = newest(workdir)
    timed = ("images_per_second", "seconds", "waiting")
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {
        "step": step,
        "state": state,
        "records": [{k: v for k, v in line.items() if k not in timed} for line in lines],
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["step"] == other["step"]
    for a, b in zip(*(jax.tree.leaves(x["state"]) for x in (one, other)), strict=True):
        assert np.abs(a - b).max(initial=0) <= 1e-10
    assert len(one["records"]) == len(other["records"])
    for a, b in zip(one["records"], other["records"], strict=True):
        assert a.keys() == b.keys()
        numbers = {k: v for k, v in a.items() if k != "kind"}
        assert numbers == pytest.approx({k: b[k] for k in numbers}, rel=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workdir = tmp_path_factory.mktemp("alone") / "run"
    assert Processes(1, workdir, *DIGITS).codes() == [0]
    return final(workdir)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(count: int, alone: Any, tmp_path: Path) -> None:
    """And score all of 360 test images in batches of 512 that they share."""
    run = Processes(count, tmp_path / "run", *DIGITS)
    assert run.codes() == [0] * count, run.said(0)
    assert_same(alone, final(tmp_path / "run"))
    assert "last epoch" in run.out(0)
    assert [run.out(i) for i in range(1, count)] == [""] * (count - 1)


@pytest.mark.slow
def test_processes_with_the_state_in_parts_train_as_one(tmp_path: Path) -> None:
    """Kernels of 48 channels are large enough to be split over 2 and over 3."""
    flags = (*DIGITS, "--config.model.spec=MgNet[1,1]-[48]-B^l", "--config.train.epochs=1")
    for count, how in ((1, "replicated"), (2, "sharded"), (3, "sharded")):
        run = Processes(count, tmp_path / f"run{count}", *flags, f"--config.train.sharding={how}")
        assert run.codes() == [0] * count, run.said(0)
        assert_same(final(tmp_path / "run1"), final(tmp_path / f"run{count}"))


BATCHES = """
import sys
import jax
import numpy as np
from jax.experimental import multihost_utils
from mgnet_jax.commandline import make_command, parse_arguments
from mgnet_jax.config import validate
from mgnet_jax.data.sets import load
from mgnet_jax.training import processes
from mgnet_jax.training.job import Job

out, where, *flags = sys.argv[1:]
processes.begin(where, 60)
config = make_command(*parse_arguments(["", *flags]), True, 0.0).config
validate(config, jax.device_count())
job = Job(config, load(config.data))
seen = []
for feed in (job.train_feed, job.scored_feeds["test"]):
    end = min(feed.batches, 6) if feed is not job.train_feed else job.steps_per_epoch
    call = jax.jit(feed.batch, in_shardings=(feed.shardings, None))
    for step in range(end):
        batch = call(feed.arrays(step, 1), np.int32(0))
        seen += multihost_utils.process_allgather(batch, tiled=True)
    feed.close()
if processes.is_first():
    np.savez(out, *seen)
processes.end(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resident", "folders", "prepared"])
def test_the_batches_are_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """An epoch to train on, and the batches to score, of which the last one is not full."""
    flags: tuple[str, ...] = (*DIGITS, "--config.eval.batch_size=150")
    if kind != "resident":
        folder = write_classes(tmp_path / "photos", {"a": 31, "b": 26})
        flags = photographs(folder)
    if kind == "prepared":
        home = prepare(folder, tmp_path / "sets", "shades", test_share=0.3, shard_size=10)
        flags = (*flags, "--config.data.source=tfds", f"--config.data.dir={home.parent}")
    flags = tuple(flag for flag in flags if "float64" not in flag)
    batches = []
    for count in (1, 2, 3):
        out = tmp_path / f"{count}.npz"
        assert run_code(BATCHES, count, str(out), *flags) == [0] * count
        with np.load(out) as saved_arrays:
            batches.append([saved_arrays[name] for name in saved_arrays.files])
    assert len(batches[0]) > 4
    for other in batches[1:]:
        for a, b in zip(batches[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_process_whose_others_do_not_come_says_so(tmp_path: Path) -> None:
    run = Processes(2, tmp_path / "run", *DIGITS, timeout=4)
    run.all[1].kill()
    assert run.codes(30)[0] == 1
    assert "the others did not come within 4 s" in run.said(0)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.optim.learning_rate=0.05", "config.optim.learning_rate is 0.1 in process 0"),
        ("--mode=eval", "--mode is 'train' in process 0 and 'eval' in process 1"),
        ("--distributed=", "the number of processes is 2 in process 0 and 3 in process 1"),
    ],
)
def test_processes_that_are_not_started_alike_are_told_so(
    flag: str, said: str, tmp_path: Path
) -> None:
    flag = flag + "{address},3,1" * flag.endswith("=")
    run = Processes(2, tmp_path / "run", *DIGITS, second=(flag,))
    assert run.codes(60) == [2, 2], run.said(0) + run.said(1)
    assert all(said in run.said(i) for i in range(2))
    assert not (tmp_path / "run").exists()


def test_a_process_learns_why_another_has_ended(tmp_path: Path) -> None:
    """One does not see the folder; the other one does not wait for the timeout."""
    elsewhere = f"--workdir={tmp_path / 'elsewhere'}"
    run = Processes(2, tmp_path / "run", *DIGITS, second=(elsewhere,), timeout=100)
    assert run.codes(60) == [1, 1], run.said(0) + run.said(1)
    assert "is not one folder for all processes" in run.said(1)
    assert "process 0 ends since process 1 did: --workdir=" in run.said(0)


def photographs(folder: Path) -> tuple[str, ...]:
    return (
        "--config=imagenet:photographs",
        f"--config.data.dir={folder}",
        "--config.model.spec=MgNet[1,1]-[4]-B^l",
        "--config.model.stem=cifar",
        "--config.model.dtype=float64",
        "--config.data.image_size=8",
        "--config.data.decoder=pillow",
        "--config.data.test_share=0.3",
        "--config.data.threads=1",
        "--config.train.batch_size=12",
        "--config.train.epochs=2",
        "--config.optim.warmup_epochs=0",
        "--config.log.every_steps=2",
        "--config.eval.batch_size=6",
    )


@pytest.mark.parametrize(
    ("counts", "prepared"),
    [
        pytest.param((1, 2), False, marks=pytest.mark.slow),
        pytest.param((1, 2, 3), True, marks=pytest.mark.slow),
    ],
)
def test_photographs_are_read_by_all(
    counts: tuple[int, ...], prepared: bool, tmp_path: Path
) -> None:
    """17 are scored, in batches of 6; each counts once."""
    folder = write_classes(tmp_path / "photos", {"a": 31, "b": 26})
    flags: tuple[str, ...] = photographs(folder)
    if prepared:
        home = prepare(folder, tmp_path / "sets", "shades", test_share=0.3, shard_size=10)
        flags = (*flags, "--config.data.source=tfds", f"--config.data.dir={home.parent}")
    for count in counts:
        workdir = tmp_path / f"run{count}"
        run = Processes(count, workdir, *flags)
        assert run.codes() == [0] * count, run.said(0)
        assert_same(final(tmp_path / "run1"), final(workdir))


@pytest.mark.slow
def test_a_photograph_that_one_process_cannot_read_costs_no_work(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 31, "b": 26})
    (folder / "a" / "000.jpg").write_bytes(b"no photograph")
    run = Processes(2, tmp_path / "run", *photographs(folder), "--config.train.epochs=50")
    assert run.codes() == [2, 2], run.said(0) + run.said(1)
    said = [run.said(i) for i in range(2)]
    assert sum("000.jpg" in text for text in said) == 1
    assert sum("another process" in text for text in said) == 1
    steps = saved(tmp_path / "run")
    before = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert not steps or steps[-1] >= max((r["step"] for r in before), default=0)


def trials(*first: Any) -> list[Any]:
    """Values of a parameter, and the slow repetitions of each: five trials in all."""
    slow = (pytest.param(*one, i, marks=pytest.mark.slow) for one in first for i in range(1, 5))
    return [*((*one, 0) for one in first), *slow]


@pytest.mark.parametrize(
    ("number", "who", "trial"),
    [
        *trials((signal.SIGTERM, (1,))),
        *(pytest.param(signal.SIGTERM, (0, 1), i, marks=pytest.mark.slow) for i in range(5)),
        *(pytest.param(signal.SIGINT, (0, 1), i, marks=pytest.mark.slow) for i in range(5)),
    ],
)
def test_a_signal_to_any_stops_all_at_one_step(
    number: signal.Signals, who: Any, trial: int, tmp_path: Path
) -> None:
    run = Processes(2, tmp_path / "run", *LONG)
    run.when(lambda: len(saved(tmp_path / "run")) > 0, number, *who)
    assert run.codes() == [128 + number] * 2, run.said(0)
    assert f"stopped by {number.name} after step" in run.said(0)
    step = int(run.said(0).split("after step ")[1].split(",")[0])
    assert saved(tmp_path / "run")[-1] == step


@pytest.mark.slow
def test_another_number_of_processes_goes_on_to_the_same_end(alone: Any, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    every = (*DIGITS, "--config.checkpoint.every_steps=2")
    run = Processes(2, workdir, *every)
    run.when(lambda: len(saved(workdir)) > 0, signal.SIGINT, 0)
    assert run.codes() in ([130, 130], [0, 0]), run.said(0)
    assert Processes(3, workdir, *every).codes() == [0, 0, 0]
    one, other = alone, final(workdir)
    assert_same({**one, "records": []}, {**other, "records": []})


@pytest.mark.parametrize(
    ("number", "trial"),
    [
        *trials((signal.SIGKILL,)),
        *(pytest.param(signal.SIGSTOP, i, marks=pytest.mark.slow) for i in range(5)),
    ],
)
def test_a_dead_or_hanging_process_ends_the_others(number: int, trial: int, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    run = Processes(2, workdir, *LONG, timeout=30)
    run.when(lambda: len(saved(workdir)) > 0, number, 1)
    run.all[0].wait(90)
    run.all[1].kill()
    code, _ = run.codes()
    assert code == 1, run.said(0)
    assert "another process" in run.said(0)
    assert "on from the newest checkpoint" in run.said(0)
    assert newest(workdir)[0] == saved(workdir)[-1]


OURS = {"MGNET_COORDINATOR": "a:1", "MGNET_PROCESSES": "4", "MGNET_PROCESS": "3"}
SLURM = {
    **{"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "2"},
    **{"SLURM_PROCID": "1", "SLURM_LOCALID": "0"},
}
GIVEN = {"coordinator_address": "a:1", "num_processes": 4, "process_id": 3}


@pytest.mark.parametrize(
    ("how", "environment", "found"),
    [
        ("auto", {}, None),
        ("auto", OURS, GIVEN),
        ("off", OURS, None),
        ("a:1,4,3", {}, GIVEN),
        ("a:1,4,3", SLURM, GIVEN),
        ("a:1,1,0", {}, None),
        ("auto", SLURM, {}),
        ("auto", SLURM | OURS, GIVEN),
        ("auto", SLURM | {"SLURM_NTASKS": "1"}, None),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "2"}, {}),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        ("auto", {"TPU_WORKER_HOSTNAMES": "a"}, None),
        ("auto", {"MEGASCALE_NUM_SLICES": "2"}, {}),
    ],
)
def test_what_the_environment_shows(how: str, environment: Any, found: Any) -> None:
    assert launch.find(how, environment) == found


@pytest.mark.parametrize("how", ["a:1,4", "a,4,0", "a:1,4,4", "a:1,x,0", "a:1,2,-1", "yes"])
def test_what_makes_no_sense_is_named(how: str) -> None:
    with pytest.raises(launch.LaunchError, match="HOST:PORT"):
        launch.find(how, {})
    with pytest.raises(launch.LaunchError, match="MGNET_PROCESS is missing"):
        launch.find("auto", {k: v for k, v in OURS.items() if k != "MGNET_PROCESS"})
