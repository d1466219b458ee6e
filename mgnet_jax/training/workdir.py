"""The folder of a run: whose it is, and what is kept in it of its configuration and its data."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config import (
    CHANGEABLE,
    RESUMABLE,
    ConfigError,
    differences,
    flatten,
    from_json,
    resumed,
)
from mgnet_jax.data.fingerprint import fingerprint
from mgnet_jax.data.info import Info
from mgnet_jax.data.sources import DataSet
from mgnet_jax.training import checkpoint, processes
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.files import replace_file
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.optim import TO_ZERO
from mgnet_jax.training.progress import say

CONFIG = "config.json"
DATA = "data.json"
RUN = "run.json"


def saved_config(workdir: Path) -> ConfigDict | None:
    """The configuration of the run in workdir; None where there is no run.

    What decides the result is as the newest checkpoint says; the rest is as in config.json.

    Raises:
      ConfigError: there is no checkpoint, and config.json is damaged.
      FormatError: the checkpoints are of another version.
    """
    saved, path = _newest(workdir), workdir / CONFIG
    if saved is None:
        try:
            return from_json(path.read_text()) if path.exists() else None
        except (ConfigError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}; give another --workdir") from None
    config = from_json(json.dumps(saved.run["config"]))
    try:
        written = from_json(path.read_text())
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        say(f"{path} cannot be used: the checkpoint of step {saved.step} has it too ({error})")
        return config
    if changed := differences(config, written):
        say(f"{path} is not what the run was trained with: {'; '.join(changed)}. That is left out")
    return resumed(config, written)


def _newest(workdir: Path) -> Manifest | None:
    """The manifest of the newest checkpoint; its files may be damaged."""
    with Checkpoints(workdir) as checkpoints:
        manifests = checkpoints.manifests()
    return manifests[max(manifests)] if manifests else None


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a run knows of its data set.

    Attributes:
      info: facts; the scale is that of the run.
      class_names: in label order.
      decoder: of the photographs trained on, "fast" or "pillow"; "" of other sets.
      train, test: fingerprints of the images.
    """

    info: Info
    class_names: tuple[str, ...]
    decoder: str = ""
    train: str = ""
    test: str = ""

    def content(self) -> dict[str, Any]:
        """It as the content of data.json."""
        facts = {name: getattr(self, name) for name in ("decoder", "train", "test", "class_names")}
        return json.loads(json.dumps(dataclasses.asdict(self.info) | facts))


def saved_data(workdir: Path) -> Kept | None:
    """What the run in workdir knows of its data set; None without.

    Raises:
      ConfigError: there is no checkpoint that says it, and its data.json is damaged.
      FormatError: the checkpoints are of another version.
    """
    saved, path = _newest(workdir), workdir / DATA
    try:
        if saved:
            return _as_kept(saved.run["data"])
        return _as_kept(json.loads(path.read_text())) if path.exists() else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); remove it to look at the data set itself instead"
        ) from None


def _as_kept(content: Mapping[str, Any]) -> Kept:
    """Data.json's content as `Kept`; raises one of several errors if it is none."""
    facts = dict(content)
    names = tuple(facts.pop("class_names"))
    words = {name: str(facts.pop(name, "")) for name in ("decoder", "train", "test")}
    facts |= {key: tuple(facts[key]) for key in ("image_shape", "mean", "std")}
    info = Info(**facts)
    _check(info, names)
    return Kept(info, names, **words)


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


def begin(
    config: ConfigDict, data: DataSet, decoder: str, workdir: Path, changeable: bool = False
) -> dict[str, Any]:
    """Whose the checkpoints of a run are, see `Manifest.run`: made, or checked if it goes on.

    Args:
      config: of the run.
      data: its data set.
      decoder: of the photographs trained on.
      workdir: folder of the run.
      changeable: whether it may go on with other values of `config.CHANGEABLE`.

    Raises:
      ConfigError: the run there has another configuration, or was trained on other images.
      CheckpointError: its checkpoints are of several runs.
    """
    mean, std = config.data.mean or data.info.mean, config.data.std or data.info.std
    info = dataclasses.replace(data.info, mean=tuple(mean), std=tuple(std))
    prints = map(fingerprint, (data.train, data.test))
    kept = Kept(info, data.class_names, decoder, *prints)
    newest = _newest(workdir)
    run: dict[str, Any] = {"config": flatten(config), "data": kept.content()}
    if newest is None:
        return run | {"id": os.urandom(8).hex()}
    saved = from_json(json.dumps(newest.run["config"]))
    if now := _changed(saved, config, workdir, changeable):
        change = {"step": newest.step, "changes": now}
        run["changes"] = [*newest.run.get("changes", ()), change]
    if changed := _changes(_as_kept(newest.run["data"]), kept):
        raise ConfigError(
            f"{workdir} holds a run on another data set than is in config.data.dir="
            f"{config.data.dir!r}: {'; '.join(changed)}. Give another --workdir, or the old data "
            f"set."
        )
    return {**newest.run, **run, "id": _run_id(workdir)}


def keep(run: Mapping[str, Any], workdir: Path) -> None:
    """Writes what a run is into its folder, where it is not there: in three files of JSON.

    data.json holds what using the network takes, so that this does not take the training images:
    the names of the classes, the shape of an image, its scale, the sizes of the data set, and what
    its images are known by.
    """
    if not processes.is_first():
        return
    about = {key: run[key] for key in ("id", "changes") if key in run}
    goes_on = checkpoint.exist(workdir)
    for name, content in ((RUN, about), (DATA, run["data"]), (CONFIG, run["config"])):
        path, text = workdir / name, (json.dumps(content, indent=2) + "\n").encode()
        if not path.exists() or path.read_bytes() != text:
            replace_file(path, text)
            if goes_on and name != CONFIG and "changes" not in run:  # some keys may change
                say(f"{path} was not that of the run: it is written again from the checkpoint")


def _changes(saved: Kept, now: Kept) -> list[str]:
    """What differs between the data set that a run began with and that of now."""
    before, after = dataclasses.asdict(saved.info), dataclasses.asdict(now.info)
    changed = [f"{k} was {before[k]} and is now {after[k]}" for k in after if before[k] != after[k]]
    if saved.class_names != now.class_names:
        changed.append("its classes have other names")
    others = [name for name in ("train", "test") if getattr(saved, name) != getattr(now, name)]
    return changed or [f"its {name} images are others" for name in others]


def own_id(workdir: Path) -> str:
    """The id that run.json has; "" if it is lost: it is the checkpoints' then."""
    try:
        return str(json.loads((workdir / RUN).read_text())["id"])
    except (OSError, KeyError, TypeError, ValueError):
        return ""


def _run_id(workdir: Path) -> str:
    """The id of the run in workdir.

    Raises:
      CheckpointError: its checkpoints are of several runs, or of another one.
    """
    with Checkpoints(workdir) as checkpoints:
        ids = {step: m.run["id"] for step, m in checkpoints.manifests().items()}
    own = own_id(workdir)
    if len({own, *ids.values()} - {""}) <= 1:
        return own or next(iter(ids.values()), "")
    foreign = [str(step) for step, other in ids.items() if other != own]
    raise checkpoint.CheckpointError(
        f"{workdir / checkpoint.FOLDER} has checkpoints of another run: {', '.join(foreign)}. Move "
        f"them away, or give another --workdir"
        if own
        else f"{workdir / checkpoint.FOLDER} has checkpoints of several runs: {ids}, and {RUN} is "
        f"lost; move those that are not of this run away"
    )


def check_workdir(config: ConfigDict, workdir: Path, changeable: bool = False) -> list[str]:
    """What of a run in workdir is to change, which is nothing unless that is asked for.

    Args:
      config: to go on with, or to score with.
      workdir: folder of the run.
      changeable: whether the keys in `config.CHANGEABLE` may change.

    Raises:
      CheckpointError: its checkpoints are of several runs.
      ConfigError: workdir is a file or holds a run with another configuration.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir={workdir} is a file; give a folder")
    if not checkpoint.exist(workdir):
        return []
    _run_id(workdir)
    saved = saved_config(workdir)
    return _changed(saved, config, workdir, changeable) if saved else []


def _changed(saved: ConfigDict, config: ConfigDict, workdir: Path, changeable: bool) -> list[str]:
    """What differs and decides the result; ConfigError if it may not.

    More epochs may follow where those before are the same whatever their number: where the rate
    does not go to 0 at the end.
    """
    changed = differences(saved, config)
    longer = ("train.epochs",) if config.train.epochs > saved.train.epochs else ()
    other = differences(saved, config, (*RESUMABLE, *CHANGEABLE, *longer))
    same_before = longer and config.optim.schedule not in TO_ZERO
    free = same_before and not differences(saved, config, (*RESUMABLE, *longer))
    if changed and (other or not (changeable or free)):
        flag = "" if other else ", or --resume_with to train on with the new ones"
        if longer and not other:
            flag += (
                f" (the rate then follows the {config.optim.schedule} schedule of the new length "
                "from where the run is, up again from its end)"
            )
        raise ConfigError(
            f"{workdir} holds a run with another configuration: {'; '.join(changed)}. Give another "
            f"--workdir, the old values{flag}."
        )
    return changed


def with_decoder(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The configuration, in which a run that goes on has the decoder that it began with."""
    kept = saved_data(workdir) if checkpoint.exist(workdir) else None
    if kept is None or not kept.decoder or config.data.decoder != "auto":
        return config
    config = config.copy_and_resolve_references()
    config.data.decoder = kept.decoder
    return config


def require_checkpoints(workdir: Path) -> None:
    """Raises CheckpointError if there is nothing to score in workdir."""
    if not checkpoint.exist(workdir):
        raise checkpoint.CheckpointError(
            f"there are no checkpoints in {workdir}; train first, or give the run's --workdir"
        )
