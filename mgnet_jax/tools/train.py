"""Trains a run, or goes on with it."""

from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from mgnet_jax.tools.tool import PROCESSES, Command, Flag, check, join

NAME = "train"
HELP = "train (or go on with) a run"
FLAGS: tuple[Flag, ...] = (
    Flag("resume_with", False, "go on with a run with other values of config.optim and the like"),
    *PROCESSES,
)


def run(command: Command) -> None:
    """Trains the run in the workdir to its last epoch, see `training.loop.train`."""
    join(command, NAME)
    check_numerics(command.config)
    make_data(command.config)
    train_one(command.config, command.workdir, command.started, command.flags["resume_with"])


def train_one(
    config: ConfigDict,
    workdir: Path,
    started: float,
    resume_with: bool = False,
    says: bool = True,
) -> None:
    """Finds out that a run can be trained here, and trains it, see `training.loop.train`.

    Args:
      config: not validated yet.
      workdir: folder of the run.
      started: time.monotonic() at the start of the command.
      resume_with: whether a run there may go on with other values of `config.CHANGEABLE`.
      says: whether it says what the run is.
    """
    import jax

    from mgnet_jax.training.initial import take_scale
    from mgnet_jax.training.loop import train
    from mgnet_jax.training.plan import require_memory

    begun = check(config, jax.device_count())
    config = take_scale(config, workdir)
    require_memory(config, begun.info, begun.model, begun.costs)
    train(config, workdir, started, resume_with, begun.text(config) if says else "")


def check_numerics(config: ConfigDict) -> None:
    """Checks this installation once, see `training.installation.require_right`.

    Args:
      config: not validated yet.
    """
    from mgnet_jax.models import CHOICES
    from mgnet_jax.training.installation import require_right

    model = config.get("model")
    dtype = model.get("dtype") if isinstance(model, Mapping | ConfigDict) else None
    if dtype in CHOICES["dtype"]:
        require_right(dtype)


def make_data(config: ConfigDict) -> None:
    """Makes and prepares a data set that can be made on the spot, if it is not there.

    It says the commands that do the same with photographs of one's own.

    Args:
      config: not validated yet.
    """
    from mgnet_jax.data import sets
    from mgnet_jax.tools.prepare import prepare
    from mgnet_jax.training import processes
    from mgnet_jax.training.progress import say

    data = config.get("data")
    making = sets.to_make(data) if isinstance(data, Mapping | ConfigDict) else None
    if making is None or not processes.is_first():
        return processes.wait("the data set is made")
    root, name, make = making
    folders = root / "photographs"
    if not folders.exists():
        make(folders)
    say(f"a small data set, in folders for each class: {folders}. To prepare such a one:\n")
    flags = f"--source={folders} --out={root} --name={name}"
    say(f"  python -m mgnet_jax.main --mode=prepare {flags}\n")
    prepare(folders, root, name)
    say("")
    processes.wait("the data set is made")
