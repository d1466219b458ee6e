"""Two virtual CPU devices for all tests, whatever the machine has; and two runs to look at.

What takes long to compile and no time to run is compiled with the least optimisation, in a third of
the time, see `QUICKLY`.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

# before JAX starts
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

# a shell's background jobs, and nohup's, begin with these ignored; so would what is started here
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

LONG = ("test_processes.py", "test_sharding.py", "test_mgnet.py", "test_plan.py")


QUICKLY = (
    *("test_mgnet.py", "test_iteration.py", "test_families.py", "test_cost.py", "test_layers.py"),
    *("test_norm.py", "test_features.py", "test_steps.py", "test_nonfinite.py", "test_job.py"),
    *("test_initial.py", "test_longer.py", "test_tracking.py", "test_reproduce.py"),
    *("test_trace.py", "test_relaxation.py", "test_vcycle.py"),
)
"""The files whose networks are so small that nearly all of their time is spent on compiling."""


@pytest.fixture(autouse=True)
def compile_quickly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has XLA optimise as little as it can in these files; numbers are as right as ever."""
    if request.path.name not in QUICKLY:
        return
    from jax._src import compiler
    from networks import QUICK

    options = compiler.get_compile_options

    def quick(*arguments: Any, **named: Any) -> Any:
        given = named.get("env_options_overrides") or {}
        return options(*arguments, **(named | {"env_options_overrides": QUICK | given}))

    monkeypatch.setattr(compiler, "get_compile_options", quick)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that none of them is left alone at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What all tests and their processes compile, they compile once, xdist's workers too.

    $MGNET_TEST_PROGRAMS: a folder that several runs of the tests share.
    """
    from mgnet_jax.commandline import keep_programs

    folder = os.environ.get("MGNET_TEST_PROGRAMS")
    if folder is None and "PYTEST_XDIST_WORKER" in os.environ:
        folder = str(tmp_path_factory.getbasetemp().parent / "programs")
    elif folder is None:
        folder = str(tmp_path_factory.mktemp("programs"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    keep_programs(folder)


@pytest.fixture(scope="session", autouse=True)
def found_right(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The numerics of this installation are checked once for all tests and their processes."""
    os.environ.setdefault("MGNET_NUMERICS", str(tmp_path_factory.mktemp("numerics")))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default: MgNet on digits, shortened to 12 epochs."""
    from commands import command

    workdir = tmp_path_factory.mktemp("digits")
    assert command(workdir, "--config.train.epochs=12", "--config.eval.every_epochs=4") == 0
    return workdir


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that was never stopped, with a checkpoint every 10 steps."""
    from commands import SMALL, command

    workdir = tmp_path_factory.mktemp("uninterrupted")
    every = "--config.checkpoint.every_steps=10"
    assert command(workdir, *SMALL, every) == 0
    return workdir
