"""Figures of the long attacks, in which every trial is a whole run: `python -m attack.figures`.

To be run in tests/: `damage [COUNT]` damages the newest checkpoint COUNT times (default 300) by one
flipped bit and a third as often more heavily, and goes on to the end each time; `signals [COUNT]`
stops runs of digits by COUNT signals (default 60) in all phases; `startup [COUNT]` by Ctrl-C at
COUNT moments (default 60) of their first seconds.
"""

import contextlib
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from signal import SIGINT, Signals

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from attack.conftest import EVERY
from attack.test_damage import damaged, trials
from commands import command, killed_after, newest_state, records
from training.test_supervise import PHASES, stop_in

from mgnet_jax.commandline import keep_programs
from mgnet_jax.training.supervise import StopSignal


def damage(count: int, home: Path) -> Counter[str]:
    """How so many runs end whose newest checkpoint was damaged."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert command(home / "whole", *EVERY) == 0
        killed_after(home / "broken", 30, *EVERY)
    expected = records(home / "whole"), jax.tree.leaves(newest_state(home / "whole"))
    ends: Counter[str] = Counter()
    for kind, seed in trials(count):
        workdir = damaged(home / "broken", home / "run", kind, seed)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = command(workdir, *EVERY)
        named = "checkpoint 30 is damaged: " in out.getvalue()
        state = jax.tree.leaves(newest_state(workdir))
        same = all(map(np.array_equal, state, expected[1])) and records(workdir) == expected[0]
        ends[f"{kind.__name__}: exit {code}, {named=}, {same=}"] += 1
    return ends


def signals(count: int, home: Path) -> Counter[str]:
    """How so many runs end that a signal stops, and how long they take to."""
    cases = [(phase, number) for phase in PHASES for number in StopSignal.SIGNALS]
    every = (cases[i % len(cases)] for i in range(count))
    return stopped(((phase, PHASES[phase], number) for phase, number in every), home)


def startup(count: int, home: Path) -> Counter[str]:
    """How so many runs end that Ctrl-C stops, 0.1 s after the start, 0.05 s later each time."""
    return stopped((("start", 0.1 + 0.05 * i, SIGINT) for i in range(count)), home)


def stopped(cases: Iterable[tuple[str, float | str, Signals]], home: Path) -> Counter[str]:
    """How runs end: each named, with when it gets which signal."""
    seconds, ends = [], Counter[str]()
    for name, ready, number in cases:
        shutil.rmtree(home / "run", ignore_errors=True)
        code, took, err = stop_in(ready, number, home / "run")
        quiet = "Traceback" not in err and "Error" not in err
        ends[f"{name}, {number.name}: right={code == 128 + number and quiet}"] += 1
        seconds.append(took)
    print(f"seconds to the exit: median {statistics.median(seconds):.2f}, most {max(seconds):.2f}")
    return ends


if __name__ == "__main__":
    attacks = {"damage": (damage, 300), "signals": (signals, 60), "startup": (startup, 60)}
    what, number = attacks[sys.argv[1]]
    number = int(sys.argv[2]) if len(sys.argv) > 2 else number
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        keep_programs(os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/programs"))
        for end, times in sorted(what(number, Path(folder)).items()):
            print(f"{times:4d}  {end}")
    print(f"{time.monotonic() - begun:.0f} s")
