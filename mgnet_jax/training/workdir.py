"""The folder of a run: whose it is, and what is kept in it of its configuration and its data."""

import dataclasses
import json
from pathlib import Path

from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, differences, from_json, to_json
from mgnet_jax.data.info import Info
from mgnet_jax.data.sources import DataSet
from mgnet_jax.training import checkpoint
from mgnet_jax.training.files import replace_file

CONFIG = "config.json"
DATA = "data.json"


def saved_config(workdir: Path) -> ConfigDict | None:
    """The configuration of the run in workdir; None where there is no run.

    Raises:
      ConfigError: its config.json is damaged.
    """
    saved = workdir / CONFIG
    try:
        return from_json(saved.read_text()) if saved.exists() else None
    except ConfigError as error:
        raise ConfigError(f"{saved}: {error}; give another --workdir") from None


def saved_data(workdir: Path) -> tuple[Info, tuple[str, ...]] | None:
    """What the run in workdir knows of its data set, and the names of its classes; None without.

    Raises:
      ConfigError: its data.json is damaged.
    """
    saved = workdir / DATA
    if not saved.exists():
        return None
    try:
        content = json.loads(saved.read_text())
        names = tuple(content.pop("class_names"))
        content |= {key: tuple(content[key]) for key in ("image_shape", "mean", "std")}
        return Info(**content), names
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{saved} cannot be read ({error}); remove it to look at the data set itself instead"
        ) from None


def keep(config: ConfigDict, data: DataSet, workdir: Path) -> None:
    """Writes what a run is into its folder: config.json and data.json.

    data.json holds what using the network takes, so that this does not take the training images:
    the names of the classes, the shape of an image, its scale, and the sizes of the data set.

    Raises:
      ConfigError: the run there was trained on a data set of other sizes or classes.
    """
    mean, std = config.data.mean or data.info.mean, config.data.std or data.info.std
    info = dataclasses.replace(data.info, mean=tuple(mean), std=tuple(std))
    saved = saved_data(workdir) if checkpoint.exist(workdir) else None
    if saved and saved != (info, data.class_names):
        before, now = (dataclasses.asdict(x) for x in (saved[0], info))
        changed = [f"{k} was {before[k]} and is now {now[k]}" for k in now if before[k] != now[k]]
        raise ConfigError(
            f"{workdir} holds a run on another data set than is in config.data.dir="
            f"{config.data.dir!r}: {'; '.join(changed) or 'its classes have other names'}. Give "
            f"another --workdir, or the old data set."
        )
    content = dataclasses.asdict(info) | {"class_names": data.class_names}
    replace_file(workdir / DATA, (json.dumps(content, indent=2) + "\n").encode())
    replace_file(workdir / CONFIG, to_json(config).encode())


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError if workdir is a file or holds a run with another configuration."""
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir={workdir} is a file; give a folder")
    saved = saved_config(workdir) if checkpoint.exist(workdir) else None
    if saved and (changed := differences(saved, config)):
        raise ConfigError(
            f"{workdir} holds a run with another configuration: {'; '.join(changed)}. "
            f"Give another --workdir, or the old values."
        )


def require_checkpoints(workdir: Path) -> None:
    """Raises CheckpointError if there is nothing to score in workdir."""
    if not checkpoint.exist(workdir):
        raise checkpoint.CheckpointError(
            f"there are no checkpoints in {workdir}; train first, or give the run's --workdir"
        )
