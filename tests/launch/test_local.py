"""Several processes on one machine: what each is told, how they end, how they are stopped."""

import re
import signal
import sys
from pathlib import Path

import pytest
from commands import SMALL
from standins import ROOT, Machine, until

TELL = (
    'echo "$MGNET_COORDINATOR $MGNET_PROCESSES ${JAX_LOCAL_DEVICE_IDS:-none} $*" '
    '> "$FOLDER/$MGNET_PROCESS.told"\n'
)
WAIT = """
for name in TERM INT; do trap "echo $name >> $FOLDER/$MGNET_PROCESS.got; exit \\$CODE" $name; done
touch "$FOLDER/$MGNET_PROCESS.ready"
for n in {1..400}; do sleep 0.05; done
"""


def told(machine: Machine) -> list[str]:
    return [path.read_text().strip() for path in sorted(machine.folder.glob("*.told"))]


def test_each_process_is_told_its_place_and_the_first_one_speaks(machine: Machine) -> None:
    machine.command("python", TELL + "echo out$MGNET_PROCESS; echo err$MGNET_PROCESS >&2")
    ports = []
    for _ in range(3):
        code, out, err = machine.run("local.sh", "2", "--config=digits", "--workdir=a b")
        assert (code, out, sorted(err.split())) == (0, "out0\n", ["err0", "err1"])
        first, second = told(machine)
        assert first == second
        found = re.fullmatch(
            r"localhost:(\d+) 2 none -m mgnet_jax.main --config=digits --workdir=a b", first
        )
        assert found
        ports.append(int(found[1]))
    assert len(set(ports)) > 1
    assert all(20000 <= port < 32000 for port in ports)


def test_another_interpreter(machine: Machine) -> None:
    python = machine.command("mine", TELL)
    assert machine.run("local.sh", "1", PYTHON=str(python)) == (0, "", "")
    assert len(told(machine)) == 1


def test_each_process_gets_its_share_of_the_gpus(machine: Machine) -> None:
    machine.command("python", TELL)
    machine.command("nvidia-smi", "for i in 0 1 2 3; do echo GPU $i: H100; done")
    assert machine.run("local.sh", "2", JAX_PLATFORMS="") == (0, "", "")
    assert [line.split()[2] for line in told(machine)] == ["0,1", "2,3"]
    assert machine.run("local.sh", "2", JAX_PLATFORMS="", CUDA_VISIBLE_DEVICES="4,6") == (0, "", "")
    assert [line.split()[2] for line in told(machine)] == ["0", "1"]
    assert machine.run("local.sh", "2", JAX_PLATFORMS="", CUDA_VISIBLE_DEVICES="") == (0, "", "")
    assert [line.split()[2] for line in told(machine)] == ["none", "none"]
    code, out, err = machine.run("local.sh", "3", JAX_PLATFORMS="")
    assert (code, out) == (2, "")
    assert "N=3 processes cannot share 4 GPUs evenly" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the number of processes is missing"),
        (("--config=digits",), "N='--config=digits' is no number of processes"),
        (("0",), "N='0' is no number"),
        (("2", "--dry-run"), "--dry-run comes first"),
        (("2", "--distributed=off"), "--distributed=off is what this script says itself"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, machine: Machine) -> None:
    machine.command("python", "")
    code, out, err = machine.run("local.sh", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert machine.calls("python") == []


def test_mistakes_in_variables(machine: Machine) -> None:
    assert "PYTHON='gone' is not there" in machine.run("local.sh", "1", PYTHON="gone")[2]
    machine.command("python", "")
    assert "GRACE='1m' is no whole number" in machine.run("local.sh", "1", GRACE="1m")[2]


def test_when_one_fails_the_others_are_stopped_after_a_grace(machine: Machine) -> None:
    fails = 'if [ "$MGNET_PROCESS" = 1 ]; then sleep 0.3; exit 7; fi\n'
    machine.command("python", fails + WAIT)
    code, out, err = machine.run("local.sh", "3", GRACE="1", CODE="1")
    assert (code, out) == (7, "")
    assert "process 1 of 3 failed with exit code 7" in err
    assert [(machine.folder / f"{i}.got").read_text() for i in (0, 2)] == ["TERM\n", "TERM\n"]


def test_within_the_grace_the_others_end_by_themselves(machine: Machine) -> None:
    late = 'if [ "$MGNET_PROCESS" = 0 ]; then sleep 1; touch "$FOLDER/saved"; exit 1; fi\n'
    machine.command("python", late + "exit 7")
    assert machine.run("local.sh", "2")[0] == 7
    assert (machine.folder / "saved").exists()


def test_what_does_not_end_is_killed_with_its_workers(machine: Machine) -> None:
    worker = "trap '' TERM\nsleep 60 &> /dev/null &\necho $! > \"$FOLDER/worker\"\n"
    stays = worker + "for n in {1..99}; do sleep 0.1; done\n"
    fails = 'if [ "$MGNET_PROCESS" = 1 ]; then sleep 0.3; exit 7; fi\n'
    machine.command("python", fails + stays)
    code = machine.run("local.sh", "2", GRACE="1")[0]
    assert code == 7
    process = Path("/proc", (machine.folder / "worker").read_text().strip(), "cmdline")
    until(lambda: not process.exists() or process.read_text() == "", 9)  # or nobody waits for it


@pytest.mark.parametrize(
    ("sent", "got", "code"),
    [
        (signal.SIGTERM, "TERM", 143),
        (signal.SIGHUP, "TERM", 143),
        (signal.SIGINT, "INT", 130),
    ],
)
def test_a_signal_goes_on_to_all(sent: int, got: str, code: int, machine: Machine) -> None:
    machine.command("python", WAIT)
    process = machine.start("local.sh", "2", CODE=str(code))
    until(lambda: len(list(machine.folder.glob("*.ready"))) == 2)
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", "")
    assert [(machine.folder / f"{i}.got").read_text() for i in (0, 1)] == [f"{got}\n"] * 2


@pytest.mark.slow
def test_real_processes_train_one_network(machine: Machine) -> None:
    python = machine.command("mine", f'exec {sys.executable} "$@"')
    code, out, err = machine.run(
        *("local.sh", "2", "--workdir=run", "--jit_cache=", *SMALL, "--config.train.epochs=1"),
        PYTHON=str(python),
        PYTHONPATH=str(ROOT),
        XLA_FLAGS="",
    )
    assert code == 0, err
    assert "checkpoints, metrics.jsonl" in out
    assert list((machine.folder / "run" / "checkpoints").glob("*/*/array_metadatas/process_1"))
    assert len(machine.calls("mine")) == 2
