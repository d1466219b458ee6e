"""A signal is noted and said; only a second Ctrl-C acts; in every phase a run ends quietly."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import ALONE, saved

from mgnet_jax.training import supervise
from mgnet_jax.training.supervise import StopSignal


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Signals that the tests' own process ignores, as in the background, are not ignored here."""
    before = {s: signal.signal(s, signal.default_int_handler) for s in StopSignal.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", StopSignal.SIGNALS)
def test_a_signal_is_noted_and_said(
    number: signal.Signals, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    left: list[int] = []
    monkeypatch.setattr(supervise, "_leave", lambda number, _: left.append(number))
    with StopSignal() as stop:
        stop.to_save = True
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
        assert "stopping after the steps under way" in capfd.readouterr().err
        signal.raise_signal(signal.SIGTERM)  # schedulers may repeat it
        assert stop.received == number and left == []
        signal.raise_signal(signal.SIGINT)
        assert left == [signal.SIGINT]
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before


def test_without_a_signal_the_handlers_come_back() -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    with StopSignal():
        assert [signal.getsignal(s) for s in StopSignal.SIGNALS] != before
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.received is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_where_nothing_is_to_be_saved_a_stuck_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in XLA's compiler, where Python's handlers are not called."""
    left: list[int] = []
    monkeypatch.setattr(supervise, "_leave", lambda number, _: left.append(number))
    monkeypatch.setattr(StopSignal, "GRACE", 0.05)
    for to_save in (True, False):
        with StopSignal() as stop:
            stop.to_save = to_save
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert left == ([] if to_save else [signal.SIGTERM])


PHASES = {  # seconds after the start, or what is to be seen first
    "imports": 0.7,
    "start": 2.0,
    "compile": "parameters ",
    "training": "step ",
}


def stop_in(ready: float | str, number: signal.Signals, workdir: Path) -> tuple[int, float, str]:
    """The exit code of a command that gets a signal, the seconds it took, its stderr.

    `ready` is as in PHASES.
    """
    command = [sys.executable, "-u", "-m", "mgnet_jax.main", f"--workdir={workdir}", "--jit_cache="]
    command += ["--config.train.epochs=2000", "--config.checkpoint.every_steps=50"]
    out, err = workdir.with_suffix(".out"), workdir.with_suffix(".err")
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | ALONE | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            until = time.monotonic() + 90
            if isinstance(ready, float):
                time.sleep(ready)
            while isinstance(ready, str) and f"\n{ready}" not in out.read_text():
                assert time.monotonic() < until and process.poll() is None, err.read_text()
                time.sleep(0.05)
            begun = time.monotonic()
            process.send_signal(number)
            code = process.wait(90)
        finally:
            process.kill()  # one that did not end
    return code, time.monotonic() - begun, err.read_text()


CASES = [
    ("imports", signal.SIGINT),
    ("start", signal.SIGINT),
    ("compile", signal.SIGTERM),
    ("training", signal.SIGHUP),
]


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        *(pytest.param(*case, id=f"{case[0]}-{case[1].name}") for case in CASES),
        *(
            pytest.param(phase, number, marks=pytest.mark.slow, id=f"{phase}-{number.name}-{i}")
            for phase in PHASES
            for number in StopSignal.SIGNALS
            for i in range(1)
        ),
    ],
)
def test_a_run_ends_quietly_in_every_phase(
    phase: str, number: signal.Signals, tmp_path: Path
) -> None:
    code, _, err = stop_in(PHASES[phase], number, tmp_path / "run")
    assert code == 128 + number
    assert "Traceback" not in err and "Error" not in err
    assert f"stopped by {number.name}" in err
    if phase == "training":
        step = int(err.split("after step ")[1].split(", which")[0].replace(",", ""))
        assert saved(tmp_path / "run")[-1] == step
