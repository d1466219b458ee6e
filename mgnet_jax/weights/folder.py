"""A network in a folder: model.safetensors, its variables, and model.json, the facts of them.

Both are readable without this package: safetensors is a library of its own, and each array has the
name of its place in Flax's tree, "params/level1/A".
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mgnet_jax.weights.facts import Facts, Weights, WeightsError, as_facts

ARRAYS, FACTS = "model.safetensors", "model.json"
FORMAT = 1


def is_folder(path: Path) -> bool:
    """Whether a network lies there."""
    return (path / FACTS).is_file()


def content(weights: Weights) -> dict[str, bytes]:
    """The files of a network by name."""
    arrays = arrays_content(weights.variables)
    facts = {"format": FORMAT, "sha256": hashlib.sha256(arrays).hexdigest()}
    facts |= dataclasses.asdict(weights.facts)
    return {ARRAYS: arrays, FACTS: (json.dumps(facts, indent=2) + "\n").encode()}


def arrays_content(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file of arrays."""
    return save({name: np.ascontiguousarray(x).reshape(x.shape) for name, x in arrays.items()})


def read_facts(path: Path) -> tuple[Facts, str]:
    """The facts of the network in a folder, and the SHA-256 that its arrays have.

    Raises:
      WeightsError: they cannot be read.
    """
    file = path / FACTS
    try:
        found = json.loads(file.read_text())
        version, digest = found["format"], str(found["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file} cannot be read: {type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise WeightsError(
            f"{file} has format {version}, and this version of mgnet_jax reads format {FORMAT}: "
            f"take the version that wrote it, {found.get('versions', {}).get('mgnet_jax')}"
        )
    return as_facts(found, file), digest


def read(path: Path) -> Weights:
    """The network in a folder.

    Raises:
      WeightsError: a file is missing or damaged, or the arrays are of another network.
    """
    facts, digest = read_facts(path)
    file = path / ARRAYS
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error}") from None
    if hashlib.sha256(raw).hexdigest() != digest:
        raise WeightsError(
            f"{file} is not the file that {FACTS} is about (its SHA-256 is another one): take both "
            f"from the same export"
        )
    return Weights(facts, load(raw))


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of any safetensors file; raises WeightsError if it cannot be read."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None
