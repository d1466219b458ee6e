"""The batch script with commands that stand in for Slurm's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL
from launched import saved
from standins import LAUNCH, ROOT, Machine, until

JOB = {"SLURM_JOB_ID": "17", "SLURM_NTASKS_PER_NODE": "1"}
GPUS = JOB | {"SLURM_GPUS_ON_NODE": "4"}
TELL = """
{ echo "$JAX_COORDINATOR_PORT ${JAX_LOCAL_DEVICE_IDS-none} ${SRUN_CPUS_PER_TASK-none}"; } \\
  >> "$FOLDER/told"
"""
FLAGS = ("--config=digits", "--workdir=runs/a b")
EVERY = "--config.checkpoint.every_steps=50"


def told(machine: Machine) -> list[list[str]]:
    return [line.split() for line in (machine.folder / "told").read_text().splitlines()]


def last(workdir: Path) -> int:
    return max(saved(workdir), default=0)


def directives() -> dict[str, str]:
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (option.partition("=") for option in options)}


def test_one_task_a_node_takes_all_its_gpus(machine: Machine) -> None:
    machine.command("srun", TELL)
    code, out, err = machine.run("slurm.sbatch", *FLAGS, **GPUS, SLURM_CPUS_PER_TASK="8")
    assert (code, out) == (0, "")
    assert "job 17, restart 0" in err
    options = ["--kill-on-bad-exit=0", "--wait=60", "--gpu-bind=none"]
    assert machine.calls("srun") == [[*options, "python", "-m", "mgnet_jax.main", *FLAGS]]
    assert told(machine) == [["20017", "0,1,2,3", "8"]]


def test_one_task_a_gpu_takes_the_one_of_its_place(machine: Machine) -> None:
    machine.command("srun", TELL)
    variables = GPUS | {"SLURM_NTASKS_PER_NODE": "4", "JAX_LOCAL_DEVICE_IDS": "0"}
    assert machine.run("slurm.sbatch", *FLAGS, **variables)[0] == 0
    assert told(machine) == [["20017", "none", "none"]]
    assert "--gpu-bind=none" in machine.calls("srun")[0]


def test_without_gpus(machine: Machine) -> None:
    machine.command("srun", TELL)
    assert machine.run("slurm.sbatch", *FLAGS, **JOB, PYTHON="mine")[0] == 0
    assert told(machine) == [["20017", "none", "none"]]
    assert machine.calls("srun")[0][2:4] == ["mine", "-m"]


@pytest.mark.parametrize(
    ("variables", "flags", "message"),
    [
        ({}, FLAGS, "SLURM_JOB_ID is not set: submit it"),
        (JOB, ("--config=digits",), "--workdir is missing"),
        (JOB, (*FLAGS, "--distributed=off"), "--distributed=off: leave it out"),
        (JOB | {"MGNET_REQUEUES": "x"}, FLAGS, "MGNET_REQUEUES='x' is no whole number"),
        (GPUS | {"SLURM_NTASKS_PER_NODE": "3"}, FLAGS, "--ntasks-per-node=3 with 4 GPUs a node"),
    ],
)
def test_mistakes(
    variables: dict[str, str], flags: tuple[str, ...], message: str, machine: Machine
) -> None:
    machine.command("srun", "")
    code, out, err = machine.run("slurm.sbatch", *flags, **variables)
    assert (code, out) == (2, "")
    assert message in err
    assert machine.calls("srun") == []


def test_a_job_stopped_by_the_time_limit_is_requeued_until_it_is_done(machine: Machine) -> None:
    """The stand-in sbatch starts the script anew as long as scontrol was told to."""
    machine.command("srun", TELL + '[ "${SLURM_RESTART_COUNT:-0}" = 2 ] || exit 143')
    machine.command("scontrol", 'touch "$FOLDER/queued"')
    sbatch = """
cp "$1" "$FOLDER/spooled"; shift
for ((count = 0; count < 9; count++)); do
  rm -f "$FOLDER/queued"
  ((count == 0)) || export SLURM_RESTART_COUNT=$count
  code=0; bash "$FOLDER/spooled" "$@" || code=$?
  [ -e "$FOLDER/queued" ] || exit $code
done
"""
    path = machine.command("sbatch", sbatch)
    environment = os.environ | JOB | {"FOLDER": str(machine.folder)}
    environment["PATH"] = f"{machine.bin}:{environment['PATH']}"
    command = [path, LAUNCH / "slurm.sbatch", *FLAGS]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert machine.calls("scontrol") == [["requeue", "17"]] * 2
    assert [line[0] for line in told(machine)] == ["20017", "20118", "20219"]
    assert len(machine.calls("srun")) == 3


@pytest.mark.parametrize("code", [0, 1, 2, 130, 137])
def test_no_other_end_requeues(code: int, machine: Machine) -> None:
    machine.command("srun", f"exit {code}")
    machine.command("scontrol", "")
    assert machine.run("slurm.sbatch", *FLAGS, **JOB)[0] == code
    assert machine.calls("scontrol") == []


def test_a_cancelled_job_is_not_requeued(machine: Machine) -> None:
    """Scancel's signal goes to the batch script too."""
    machine.command("srun", "kill -TERM $PPID; exit 143")
    machine.command("scontrol", "")
    assert machine.run("slurm.sbatch", *FLAGS, **JOB)[0] == 143
    assert machine.calls("scontrol") == []


def test_requeueing_has_an_end(machine: Machine) -> None:
    machine.command("srun", "exit 143")
    machine.command("scontrol", "")
    again = {"SLURM_RESTART_COUNT": "3", "MGNET_REQUEUES": "3"}
    code, _, err = machine.run("slurm.sbatch", *FLAGS, **JOB, **again)
    assert code == 143
    assert "requeued 3 times" in err
    assert machine.calls("scontrol") == []


def test_the_signal_goes_to_the_tasks_ahead_of_the_limit() -> None:
    found = directives()
    assert found["signal"] == "TERM@120"  # B:TERM would reach the batch script alone
    assert found["ntasks-per-node"] == "1"
    assert "requeue" in found


def test_jax_finds_two_real_tasks_by_slurms_variables(machine: Machine) -> None:
    (machine.bin / "srun").symlink_to(ROOT / "tests" / "launch" / "srun")
    joins = "import jax; jax.distributed.initialize(); print(jax.process_index(), end='of'); "
    python = machine.command(
        "mine", f'{sys.executable} -c "{joins} print(jax.process_count(), flush=True)"'
    )
    job = JOB | {"SLURM_JOB_ID": str(os.getpid())}
    code, out, err = machine.run("slurm.sbatch", *FLAGS, **job, PYTHON=str(python))
    assert code == 0, err
    assert sorted(out.split()) == ["0of2", "1of2"]


@pytest.mark.slow
def test_real_tasks_are_stopped_ahead_of_the_limit_and_go_on(machine: Machine) -> None:
    (machine.bin / "srun").symlink_to(ROOT / "tests" / "launch" / "srun")
    machine.command("scontrol", "")
    python = machine.command("mine", f'exec {sys.executable} "$@"')
    flags = ("--workdir=run", "--jit_cache=", *SMALL, "--config.train.epochs=1000")
    tasks = machine.folder / "tasks"
    job = {"SLURM_JOB_ID": str(os.getpid()), "PYTHON": str(python), "PYTHONPATH": str(ROOT)}
    job |= {"TASKS": str(tasks), "XLA_FLAGS": ""}
    steps = [0]
    for restart in (0, 1):
        variables = job | {"SLURM_RESTART_COUNT": str(restart)}
        process = machine.start("slurm.sbatch", *flags, EVERY, **variables)
        until(lambda: last(machine.folder / "run") > steps[-1])
        for pid in tasks.read_text().split():
            os.kill(int(pid), signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 143, err
        steps.append(last(machine.folder / "run"))
    assert machine.calls("scontrol") == [["requeue", job["SLURM_JOB_ID"]]] * 2
    assert f"step {steps[1]}" in out
    assert list((machine.folder / "run" / "checkpoints").glob("*/*/array_metadatas/process_1"))
