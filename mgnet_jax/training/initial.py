"""What a run starts from besides random numbers: the weights of a run, of an export, of PyTorch."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mgnet_jax.config import flatten
from mgnet_jax.data import sets
from mgnet_jax.data.sources import DataSet
from mgnet_jax.training import checkpoint, processes, sharding
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.job import Job
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.progress import say
from mgnet_jax.training.state import TrainState
from mgnet_jax.training.workdir import saved_config, saved_data
from mgnet_jax.weights import folder, pytorch
from mgnet_jax.weights.facts import Facts, Weights, WeightsError

HEAD = "params/head/linear/"
"""Where the classes are: the layer that other classes need anew."""
PRIVATE = ("data.dir", "init.source")
"""Keys that name folders of one machine."""
FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def read_weights(source: str, which: str = "last") -> Weights:
    """The weights that a person means.

    Args:
      source: the folder of a run or of an export, or a file of PyTorch.
      which: the checkpoint of a run: "last", "best" or a step.

    Raises:
      CheckpointError: there is no such checkpoint of the run.
      ConfigError: what the run keeps of itself is damaged.
      WeightsError: there are no weights, or they cannot be read.
    """
    path = Path(source).expanduser()
    if folder.is_folder(path):
        return folder.read(path)
    if checkpoint.exist(path):
        return _of_run(path, which)
    if path.is_file() and path.suffix == ".safetensors" and folder.is_folder(path.parent):
        return folder.read(path.parent)
    if path.is_file() and path.suffix in FILES:
        return pytorch.read(path)
    what = "no folder of a run or an export" if path.is_dir() else "not there"
    what = f"no file of weights ({', '.join(FILES)})" if path.is_file() else what
    raise WeightsError(
        f"{source} is {what}: give the workdir of a run, the folder that --mode=export wrote, or a "
        f"file with the state dict of a network of PyTorch"
    )


def read_facts(source: str, which: str = "last") -> Facts:
    """The facts of such weights; see `read_weights` for errors."""
    path = Path(source).expanduser()
    if folder.is_folder(path):
        return folder.read_facts(path)[0]
    if checkpoint.exist(path):
        job = _job_of(path)
        with Checkpoints(path) as checkpoints:
            return _facts(path, checkpoints.find(which), job)
    return read_weights(source, which).facts


def restored(job: Job, workdir: Path, which: str) -> tuple[Manifest, TrainState]:
    """A checkpoint of a run and its state; see `Checkpoints.find` and `restore` for errors."""
    with Checkpoints(workdir) as checkpoints:
        saved = checkpoints.find(which)
        return saved, checkpoints.restore(saved, job.abstract_state)


def _of_run(workdir: Path, which: str) -> Weights:
    """Those of a run's checkpoint; averaged over its steps if the run has such."""
    job = _job_of(workdir)
    saved, state = restored(job, workdir, which)
    variables = flatten_dict(jax.device_get(state.variables), sep="/")
    arrays = {name: np.asarray(x) for name, x in variables.items()}
    return Weights(_facts(workdir, saved, job), arrays)


def _job_of(workdir: Path) -> Job:
    """What a run is, without its images."""
    config = saved_config(workdir)
    assert config is not None
    kept = saved_data(workdir)
    info, names = (kept.info, kept.class_names) if kept else (sets.describe(config.data), ())
    jax.config.update("jax_enable_x64", config.model.dtype == "float64")
    return Job(config, DataSet(info, None, None, names))


def _facts(workdir: Path, saved: Manifest, job: Job) -> Facts:
    """What is known of a checkpoint."""
    config, info = job.config, job.data.info
    records = map(json.loads, saved.history.splitlines())
    evals = [r for r in records if r["kind"] == "eval" and r["step"] == saved.step]
    known = ("kind", "step", "epoch", "seconds")
    scores = {k: v for k, v in evals[-1].items() if k not in known} if evals else {}
    averaged = ", weights averaged over the steps" if config.train.ema_decay else ""
    views = ", with their mirror images" if config.eval.flip else ""
    views += f", shifted by {config.eval.shift} pixels too" if config.eval.shift else ""
    settings = json.loads(json.dumps(flatten(config)))  # as a file has them
    scored = (
        f"on all {info.test_size:,} test images after epoch {saved.step / job.steps_per_epoch:g}"
        f"{averaged}{views}"
    )
    return Facts(
        spec=str(job.model.spec),
        stem=config.model.stem,
        num_classes=info.num_classes,
        image_shape=info.image_shape,
        mean=job.scale["mean"],
        std=job.scale["std"],
        dtype=config.model.dtype,
        class_names=job.data.class_names,
        shorter_side=job.cut.shorter_side if sets.are_photographs(config.data) else 0,
        data=config.data.name,
        train_size=info.train_size,
        test_size=info.test_size,
        step=saved.step,
        epoch=saved.step / job.steps_per_epoch,
        scores=scores,
        scored=scored if scores else "",
        config={k: v for k, v in settings.items() if k not in PRIVATE},
        versions=saved.versions,
        source=f"checkpoint {saved.step} of the run {workdir.name}",
    )


def take_scale(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The configuration with the scale of the images that the weights it starts from are used to.

    A run that goes on has the one that it began with. Where the configuration says a scale itself,
    that is taken.
    """
    if not config.init.source or config.data.mean or config.data.std:
        return config
    saved = saved_config(workdir) if checkpoint.exist(workdir) else None
    if saved is not None:
        mean, std = saved.data.mean, saved.data.std
    else:
        facts = read_facts(config.init.source, config.init.checkpoint)
        mean, std = facts.mean, facts.std
    config = config.copy_and_resolve_references()
    config.data.mean, config.data.std = tuple(mean), tuple(std)
    return config


def first_state(job: Job) -> TrainState:
    """The state that a run begins with, on its devices; see `read_weights` for errors."""
    state = jax.block_until_ready(job.initial_state())
    init = job.config.init
    if not init.source:
        return state
    weights = read_weights(init.source, init.checkpoint)
    state, new_head = put_in(state, weights, job)
    if processes.is_first():
        classes = f"; a new head for {job.data.info.num_classes} classes" if new_head else ""
        say(f"Starting from {weights.facts.source} ({init.source}){classes}.")
    return state


def put_in(state: TrainState, weights: Weights, job: Job) -> tuple[TrainState, bool]:
    """The state with weights put into it; the head stays as it is where the classes are others.

    Args:
      state: the first one of a run.
      weights: to put in.
      job: the run.

    Returns:
      The state, and whether its head stayed.

    Raises:
      WeightsError: they are of another network.
    """
    given = weights.variables
    target = {"params": state.params, "batch_stats": state.batch_stats}
    arrays = flatten_dict(target, sep="/")
    names, theirs = job.data.class_names, weights.facts.class_names
    others = bool(names and theirs and names != theirs)
    new_head = others or weights.facts.num_classes != job.data.info.num_classes
    left = {name for name in arrays if new_head and name.startswith(HEAD)}
    shapes = {n: x.shape for n, x in given.items()}
    wrong = [n for n, x in arrays.items() if n not in left and shapes.get(n) != x.shape]
    more = [n for n in given if n not in arrays]
    if wrong or more:
        first = (wrong or more)[0]
        there, wanted = shapes.get(first), arrays[first].shape if first in arrays else None
        raise WeightsError(
            f"{weights.facts.source} is {weights.facts.spec}, whose arrays are not those of "
            f"{job.model.spec} on {job.data.info.name}: {first} has the shape {there} there and "
            f"{wanted} here. Set config.model.spec={weights.facts.spec!r} and config.model.stem="
            f"{weights.facts.stem!r}, and images with as many channels"
        )
    put = {
        name: x if name in left else sharding.place(given[name].astype(x.dtype), x.sharding)
        for name, x in arrays.items()
    }
    tree = unflatten_dict(put, sep="/")
    variables: Any = {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}
    ema = jax.tree.map(jax.numpy.copy, variables) if state.ema is not None else None
    return dataclasses.replace(state, **variables, ema=ema), new_head
