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


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a run knows of its data set.

    Attributes:
      info: facts; the scale is that of the run.
      class_names: in label order.
      decoder: of the photographs trained on, "fast" or "pillow"; "" of other sets.
    """

    info: Info
    class_names: tuple[str, ...]
    decoder: str = ""


def saved_data(workdir: Path) -> Kept | None:
    """What the run in workdir knows of its data set; None without.

    Raises:
      ConfigError: its data.json is damaged.
    """
    saved = workdir / DATA
    if not saved.exists():
        return None
    try:
        content = json.loads(saved.read_text())
        names, decoder = tuple(content.pop("class_names")), content.pop("decoder", "")
        content |= {key: tuple(content[key]) for key in ("image_shape", "mean", "std")}
        info = Info(**content)
        _check(info, names)
        return Kept(info, names, str(decoder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{saved} cannot be read ({error}); remove it to look at the data set itself instead"
        ) from None


def _check(info: Info, names: tuple[str, ...]) -> None:
    """Raises ValueError if what was read as facts of a data set is none."""
    sizes = (*info.image_shape, info.num_classes, info.train_size, info.test_size)
    if len(info.image_shape) != 3 or not all(type(n) is int and n >= 0 for n in sizes):
        raise ValueError("a size in it is no whole number, or one of an image_shape is missing")
    numbers = (*info.mean, *info.std)
    if not all(type(x) in (int, float) for x in numbers) or not all(x > 0 for x in info.std):
        raise ValueError("mean or std in it are no numbers")
    if not all(len(x) == info.image_shape[2] for x in (info.mean, info.std)):
        raise ValueError("mean or std in it have not one number for each channel")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name of a class in it is no text")
    if names and len(names) != info.num_classes:
        raise ValueError(f"it has {len(names)} names of {info.num_classes} classes")


def keep(
    config: ConfigDict, data: DataSet, decoder: str, workdir: Path, write: bool = True
) -> None:
    """Writes what a run is into its folder: config.json and data.json; or only checks it.

    data.json holds what using the network takes, so that this does not take the training images:
    the names of the classes, the shape of an image, its scale, and the sizes of the data set.

    Raises:
      ConfigError: the run there was trained on a data set of other sizes or classes.
    """
    mean, std = config.data.mean or data.info.mean, config.data.std or data.info.std
    info = dataclasses.replace(data.info, mean=tuple(mean), std=tuple(std))
    saved = saved_data(workdir) if checkpoint.exist(workdir) else None
    if saved and (saved.info, saved.class_names) != (info, data.class_names):
        before, now = (dataclasses.asdict(x) for x in (saved.info, info))
        changed = [f"{k} was {before[k]} and is now {now[k]}" for k in now if before[k] != now[k]]
        raise ConfigError(
            f"{workdir} holds a run on another data set than is in config.data.dir="
            f"{config.data.dir!r}: {'; '.join(changed) or 'its classes have other names'}. Give "
            f"another --workdir, or the old data set."
        )
    if not write:
        return
    content = dataclasses.asdict(info) | {"decoder": decoder, "class_names": data.class_names}
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
