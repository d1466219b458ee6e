"""The script for TPU VMs, with a gcloud that runs what it is told to on a worker that is here."""

import os
import re
import signal
from pathlib import Path

import pytest
from standins import ROOT, Machine, until

WHERE = ("--name=a", "--zone=z")
GCLOUD = """
for argument in "$@"; do
  case $argument in --command=*) HOME=$FOLDER bash -c "${argument#--command=}"; exit ;; esac
done
case $4 in
  describe) echo "${STATE:-ACTIVE}" ;;
  scp) cp "$5" "$FOLDER/mgnet_jax.tar.gz" ;;
esac
"""
PYTHON = "echo \"$0 $*\"; trap 'echo saved; exit 143' TERM; for n in {1..400}; do sleep 0.05; done"


@pytest.fixture
def worker(machine: Machine) -> Machine:
    machine.command("gcloud", GCLOUD)
    machine.command("sudo", '"$@"')
    machine.command("lsof", 'echo "${HOLDERS:-}"')
    machine.command("hostname", "echo worker-0")
    return machine


@pytest.fixture
def ready(worker: Machine) -> Machine:
    """A worker after setup."""
    folder = worker.folder / "mgnet_jax" / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(worker.command("of-venv", PYTHON))
    return worker


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_text()


def test_a_run_lives_on_and_is_shown_and_stopped(ready: Machine) -> None:
    flags = ("--config=imagenet", "--workdir=/mnt/a b")
    assert ready.run("tpu_vm.sh", "run", *WHERE, "--", *flags) == (0, "", "")
    pid = int((ready.folder / "mgnet_jax" / "run.pid").read_text())
    until(lambda: ready.calls("of-venv") == [["-m", "mgnet_jax.main", *flags]])
    os.kill(pid, signal.SIGHUP)  # the connection ends
    code, out, err = ready.run("tpu_vm.sh", "run", *WHERE, "--", *flags)
    assert (code, out, err) == (1, "", f"worker-0: process {pid} runs: use stop first\n")
    _, out, _ = ready.run("tpu_vm.sh", "status", *WHERE, HOLDERS=f"python {pid} accel0")
    assert out == f"a: ACTIVE\nworker-0: process {pid} runs\npython {pid} accel0\n"
    code, out, err = ready.run("tpu_vm.sh", "logs", *WHERE, HOLDERS=f"python {pid} accel0")
    assert (code, err) == (0, "")
    assert re.match(r"worker-0: logs/[\d-]+\.log\n", out)
    assert "-m mgnet_jax.main --config=imagenet" in out
    assert "held by" not in out
    _, out, _ = ready.run("tpu_vm.sh", "stop", *WHERE)
    assert out == f"worker-0: process {pid} saves and ends\n"
    until(lambda: gone(pid))
    assert ready.run("tpu_vm.sh", "stop", *WHERE)[1] == "worker-0: no run\n"
    _, out, _ = ready.run("tpu_vm.sh", "logs", *WHERE, "--lines=1")
    assert out.endswith(".log\nsaved\n")
    assert len(ready.calls("of-venv")) == 1


def test_who_holds_the_chips_is_shown_and_nothing_is_started(ready: Machine) -> None:
    held = "python 12345 root mem CHR /dev/accel0"
    code, out, err = ready.run(
        "tpu_vm.sh", "run", *WHERE, "--", "--config=x", "--workdir=w", HOLDERS=held
    )
    assert (code, out) == (1, "")
    assert err == f"worker-0: the chips are held by\n{held}\n"
    assert ready.calls("of-venv") == []
    assert ready.calls("lsof")[0][0] == "-w"
    (ready.folder / "mgnet_jax" / "logs").mkdir()
    (ready.folder / "mgnet_jax" / "logs" / "1.log").write_text("busy\n")
    _, out, _ = ready.run("tpu_vm.sh", "logs", *WHERE, HOLDERS=held)
    assert out.endswith(f"busy\nnothing of ours runs, and the chips are held by\n{held}\n")


def test_another_process_of_the_same_number_is_no_run(ready: Machine) -> None:
    (ready.folder / "mgnet_jax" / "run.pid").write_text(f"{os.getpid()}\n")
    assert "worker-0: no run\nthe chips are free\n" in ready.run("tpu_vm.sh", "status", *WHERE)[1]


def test_a_request_that_waits_has_no_workers_to_ask(worker: Machine) -> None:
    answer = worker.run("tpu_vm.sh", "status", *WHERE, STATE="WAITING_FOR_RESOURCES")
    assert answer == (0, "a: WAITING_FOR_RESOURCES\n", "")
    assert len(worker.calls("gcloud")) == 1


def test_before_setup_nothing_runs(worker: Machine) -> None:
    code, _, err = worker.run("tpu_vm.sh", "run", *WHERE, "--", "--config=x", "--workdir=w")
    assert (code, err) == (1, "worker-0: use setup first\n")
    assert len(worker.calls("gcloud")) == 1


def test_setup_copies_the_checkout_and_installs_it(worker: Machine) -> None:
    worker.command("git", 'tar -czf "${4#--output=}" -C "$2" pyproject.toml constraints.txt')
    worker.command("apt-get", 'touch "$FOLDER/installed"')
    worker.command("pip", "")
    body = '[ -e "$FOLDER/installed" ] || exit 1; mkdir -p .venv/bin; cp $(type -p pip) .venv/bin/'
    worker.command("python3.12", body)
    code, _, err = worker.run("tpu_vm.sh", "setup", *WHERE, "--python=python3.12")
    assert code == 0, err
    installed = worker.folder / "mgnet_jax"
    assert (installed / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()
    assert worker.calls("apt-get")[1] == ["install", "-qy", "python3.12", "python3.12-venv"]
    wanted = ["install", "-q", "-c", "constraints.txt", "-e", ".[tpu,images]"]
    assert worker.calls("pip") == [wanted]
    copied = worker.calls("gcloud")[0]
    everywhere = ["--node=all", "--worker=all", "--zone=z"]
    assert (copied[3], copied[5:]) == ("scp", ["a:mgnet_jax.tar.gz", *everywhere])
    assert not Path(copied[4]).exists()


def test_variables_stand_for_options(machine: Machine) -> None:
    machine.command("gcloud", "")
    variables = {"TPU_NAME": "n", "TPU_ZONE": "z", "TPU_TYPE": "t", "TPU_VERSION": "v"}
    assert machine.run("tpu_vm.sh", "create", **variables, TPU_PROJECT="p") == (0, "", "")
    options = ["--node-id=n", "--accelerator-type=t", "--runtime-version=v", "--zone=z"]
    start = ["compute", "tpus", "queued-resources", "create", "n"]
    assert machine.calls("gcloud") == [[*start, *options, "--project=p"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the action is '': give one of: create status"),
        (("start", *WHERE), "the action is 'start'"),
        (("run", "logs", *WHERE), "two actions, 'run' and 'logs'"),
        (("status", "--zone=z"), "--name='': small letters"),
        (("status", "--name=A b", "--zone=z"), "--name='A b': small letters"),
        (("status", "--name=a"), "--zone is missing"),
        (("create", *WHERE, "--version=v"), "--type is missing"),
        (("create", *WHERE, "--type=t"), "--version is missing"),
        (("create", *WHERE, "--slices=0"), "--slices='0' is no number of slices"),
        (("logs", *WHERE, "--lines=all"), "--lines='all' is no number of lines"),
        (("run", *WHERE), "flags of mgnet_jax.main are missing"),
        (("run", *WHERE, "--config=x"), "--config=x is no option of this script"),
        (("run", *WHERE, "--", "--config=x"), "--workdir is missing"),
        (("run", *WHERE, "--", "--workdir=w", "--distributed=a:1,2,0"), "leave it out"),
        (("stop", *WHERE, "--", "--config=x"), "'--config=x': only the action run takes flags"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, machine: Machine) -> None:
    machine.command("gcloud", "")
    code, out, err = machine.run("tpu_vm.sh", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert machine.calls("gcloud") == []
