"""Two trainers in one folder: the second is refused and damages nothing."""

import errno
import fcntl
import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest
from attack.conftest import EVERY
from attack.runs import Run, assert_as_uninterrupted, files
from commands import command

from mgnet_jax.training.lock import Lock, LockError


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 10))]
)
def test_the_second_is_refused_and_a_dead_one_is_not_waited_for(
    seed: int,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir, rng = tmp_path / "run", random.Random(seed)
    first = Run(workdir)
    assert first.when(first.has_lock), first.said()
    time.sleep(rng.uniform(0, 1))
    first.process.send_signal(signal.SIGSTOP)
    before = files(workdir)
    other = rng.choice(([], ["--config.seed=1"], ["--config.train.epochs=3"]))
    assert command(workdir, *EVERY, *other) == 2
    said = capsys.readouterr().err
    known = f"process {first.process.pid} on {socket.gethostname()}, begun "
    assert known in said or "holds a run with another configuration" in said
    assert other or known in said
    assert files(workdir) == before
    if rng.random() < 0.5:
        first.kill()
        assert (workdir / ".lock").exists()
        assert command(workdir, *EVERY) == 0
    else:
        first.process.send_signal(signal.SIGCONT)
        assert first.code() == 0, first.said()
    assert not (workdir / ".lock").exists()
    assert_as_uninterrupted(workdir, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_of_two_that_begin_together_one_trains(
    seed: int, uninterrupted: Path, tmp_path: Path
) -> None:
    workdir, rng = tmp_path / "run", random.Random(seed)
    slow = "--config.checkpoint.every_steps=1"
    runs = [Run(workdir, slow)]
    time.sleep(rng.uniform(0, 0.5))
    runs.append(Run(workdir, slow))
    codes = [run.code() for run in runs]
    assert sorted(codes) == [0, 2], [run.said() for run in runs]
    winner, refused = runs[codes.index(0)], runs[codes.index(2)]
    assert f"process {winner.process.pid} on {socket.gethostname()}" in refused.said()
    assert "Traceback" not in refused.said()
    assert_as_uninterrupted(workdir, uninterrupted)


def holder(path: Path, **changed: object) -> None:
    ours = {"host": socket.gethostname(), "pid": 2**22 + 1, "job": "", "since": "yesterday"}
    path.write_text(json.dumps(ours | changed))


def test_who_died_on_another_host_is_named_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder(tmp_path / ".lock", host="node7", pid=41)
    before = files(tmp_path)
    assert command(tmp_path, *EVERY) == 2
    said = capsys.readouterr().err
    assert "process 41 on node7, begun yesterday" in said
    assert f"if it is dead, remove {tmp_path / '.lock'}" in said
    assert files(tmp_path) == before


def test_the_lock_of_this_job_before_it_was_requeued_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    holder(tmp_path / ".lock", host="node7", job="13")
    with pytest.raises(LockError):
        Lock(tmp_path / ".lock")
    holder(tmp_path / ".lock", host="node7", job="12")
    with Lock(tmp_path / ".lock") as lock:
        assert lock.holds()
    monkeypatch.delenv("SLURM_JOB_ID")
    holder(tmp_path / ".lock", host="node7", job="")
    with pytest.raises(LockError):  # no job is not the same job
        Lock(tmp_path / ".lock")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"pid": 3'])
def test_a_lock_file_that_says_nothing_is_no_obstacle(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with Lock(tmp_path / ".lock") as lock:
        assert lock.holds()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    path = tmp_path / ".lock"
    for dead in ({"pid": 2**22 + 1}, {"pid": os.getpid()}, {"pid": None}, {"pid": "x"}):
        holder(path, **dead)
        with Lock(path):
            assert f"{tmp_path} is on a file system without locks" in capsys.readouterr().out
    holder(path, pid=os.getppid())  # alive
    with pytest.raises(LockError, match=f"process {os.getppid()} on"):
        Lock(path)


def test_a_lock_that_was_removed_or_replaced_is_not_held(tmp_path: Path) -> None:
    with Lock(tmp_path / ".lock") as first:
        (tmp_path / ".lock").unlink()
        assert not first.holds()
        with Lock(tmp_path / ".lock") as second:
            assert second.holds() and not first.holds()
            first.close()
            assert second.holds()
