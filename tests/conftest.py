"""Two virtual CPU devices for all tests, whatever the machine has; and two runs to look at.

The default tests compile with the least optimisation: their networks are small, and it takes a third of
the time. The slow ones, and those marked `optimised`, have XLA as users have it.
"""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

# before JAX starts
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)


QUICK = ["--xla_backend_optimization_level=0"]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones do not have it
    QUICK.append("--xla_cpu_use_fusion_emitters=false")


def pytest_configure(config: pytest.Config) -> None:
    """Before any backend starts."""
    if config.option.markexpr.startswith("not slow"):
        os.environ["XLA_FLAGS"] += " " + " ".join(QUICK)


LONG = ("test_processes.py", "test_sharding.py", "test_mgnet.py", "test_plan.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that none of them is left alone at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What all tests and their processes compile, they compile once."""
    from mgnet_jax.commandline import keep_programs

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
