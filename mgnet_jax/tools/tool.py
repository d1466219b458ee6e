"""What a tool is, what it is told, and what those with a configuration do first."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ml_collections import ConfigDict

if TYPE_CHECKING:
    from mgnet_jax.data.info import Info
    from mgnet_jax.models import Costs, Network


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag that a tool has besides those of every command.

    Attributes:
      name: without dashes; of several tools with a flag of this name, each has its own default.
      default: the value without the flag; it fixes the type: text, bool, int or float.
      meaning: for people, without the name of the tool.
    """

    name: str
    default: str | bool | int | float
    meaning: str


PROCESSES = (
    Flag(
        "distributed",
        "auto",
        "several processes: auto (where Slurm, Open MPI, a TPU or our launch scripts say so), off, "
        "or HOST:PORT,COUNT,INDEX: the address of process 0, how many, and which this one is",
    ),
    Flag("hang_timeout", 600.0, "seconds without progress after which one of several ends itself"),
)
"""The flags of tools that several processes can run together."""


@dataclasses.dataclass(frozen=True)
class Command:
    """What a person asked of a tool.

    Attributes:
      config: the configuration of the command line, not validated yet; the default one without
        --config.
      workdir: folder of the run.
      workdir_named: whether --workdir was given.
      flags: the value of each of the tool's own flags.
      started: time.monotonic() at the start of the command.
      config_named: whether --config was given.
      arguments: the words that are no flags, for a tool that has ARGUMENTS.
      overrides: {"section.key": value} of the --config.SECTION.KEY=VALUE given.
    """

    config: ConfigDict
    workdir: Path
    flags: Mapping[str, Any]
    started: float
    config_named: bool
    overrides: Mapping[str, Any]
    workdir_named: bool = False
    arguments: tuple[str, ...] = ()


class Tool(Protocol):
    """A file of this folder.

    Attributes:
      NAME: of its --mode, that of the file.
      HELP: what it does, in one line.
      FLAGS: its own flags.
      ARGUMENTS: what words that are no flags stand for; a tool without it takes none.
    """

    NAME: str
    HELP: str
    FLAGS: tuple[Flag, ...]

    def run(self, command: Command) -> None:
        """Does it; what goes wrong is an exception, with an `exit_code` if it is a message."""


class Begun(NamedTuple):
    """What `check` found out: facts of the data set, the network, and what it costs."""

    info: "Info"
    model: "Network"
    costs: "Costs"

    def text(self, config: ConfigDict, whole: bool = False) -> str:
        """What a run is, for people: its configuration, whole or in short, and its network."""
        from mgnet_jax.config import changed_text, to_text
        from mgnet_jax.training.describe import faster_here, model_summary

        shown = to_text(config) if whole else f"{changed_text(config)}\n{REST}"
        faster = faster_here(self.model, self.info, self.costs, config.train.epochs)
        return f"{shown}\n\n{model_summary(self.model, self.info, self.costs)}\n{faster}"


REST = "the other keys have their defaults; --mode=summary prints and explains all"


def join(command: Command, mode: str) -> None:
    """Joins the other processes, if there are any, which must do the same.

    See `training.processes.begin` and `compare` for its errors.
    """
    from mgnet_jax.config import flatten
    from mgnet_jax.training import processes

    processes.begin(command.flags["distributed"], command.flags["hang_timeout"])
    config = {f"config.{name}": value for name, value in flatten(command.config).items()}
    flags = {f"--{name}": value for name, value in command.flags.items() if name != "distributed"}
    processes.compare({"--mode": mode} | flags | config)


def check(config: ConfigDict, devices: int = 1, info: "Info | None" = None) -> Begun:
    """Validates a configuration and makes its network.

    Args:
      config: what the tool works with.
      devices: devices that a batch is split over.
      info: its data set, where a run has kept what is known of it.

    Raises:
      ConfigError: the configuration cannot be run.
      DataError: there is no such data set.
    """
    import jax

    from mgnet_jax.config import ConfigError, make_model, validate
    from mgnet_jax.models import ModelError, count
    from mgnet_jax.training import measures

    info = validate(config, devices, info)
    measures.chosen(config.log.measures)
    jax.config.update("jax_enable_x64", config.model.dtype == "float64")
    model = make_model(config, info)
    if small := config.data.small_size:
        try:
            count(model, (small, small, info.image_shape[2]))
        except ModelError as error:
            raise ConfigError(f"config.data.small_size={small}: {error}") from None
    return Begun(info, model, count(model, info.image_shape))


def begin(
    config: ConfigDict, devices: int = 1, info: "Info | None" = None, whole: bool = False
) -> Begun:
    """Validates a configuration, then prints it with its network; see `check`.

    Args:
      config: what the tool works with.
      devices: devices that a batch is split over.
      info: its data set, where a run has kept what is known of it.
      whole: print every key, with its meaning.
    """
    from mgnet_jax.training.progress import say

    begun = check(config, devices, info)
    say(begun.text(config, whole))
    return begun
