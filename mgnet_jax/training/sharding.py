"""The device mesh and how arrays lie on it: batches split, the state copied or in parts.

The mesh has one axis, "data". One device is a mesh of one, so that the same compiled program serves
a laptop and a pod. Batch norm sees the whole batch: its means are taken over the global array.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

LARGE = 2**14
"""Elements of an array from which on it is worth to gather it from its parts."""


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, "data", over the given devices (default: all).

    Neighbours on it talk over the fastest links: devices of one slice (of a TPU, or of what a fast
    network joins) stand side by side, in the order that JAX finds best for its links.
    """
    devices = jax.devices() if devices is None else list(devices)
    slices = groupby(sorted(devices, key=_slice), key=_slice)
    types = (AxisType.Auto,)
    meshes = [
        jax.make_mesh((len(part),), ("data",), types, devices=part)
        for part in (list(members) for _, members in slices)
    ]
    if len(meshes) == 1:
        return meshes[0]
    return Mesh(np.concatenate([mesh.devices for mesh in meshes]), ("data",), axis_types=types)


def _slice(device: Any) -> int:
    return getattr(device, "slice_index", None) or 0


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Split over the devices along the given axis."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def own_places(mesh: Mesh) -> tuple[int, ...]:
    """The places of this process's devices on the mesh, from 0."""
    own = jax.process_index()
    return tuple(i for i, device in enumerate(mesh.devices.flat) if device.process_index == own)


def is_split(shape: tuple[int, ...], devices: int, how: str) -> bool:
    """Whether an array of a state is split, along its last axis, a kernel's outputs.

    Of a state in parts small ones are not, and those of which the devices could not have equal
    parts; `how` as in `of_state`.
    """
    fits = devices > 1 and math.prod(shape) >= LARGE and shape[-1] % devices == 0
    return how == "sharded" and fits


def of_state(shapes: Any, mesh: Mesh, how: str) -> Any:
    """The sharding of each array of a state.

    Args:
      shapes: the state, or its shapes and types.
      mesh: devices.
      how: "replicated": a copy of all on every device; "sharded": each large kernel, its momentum
        and its average in parts along the output channels (as in Rajbhandari et al. 2020, ZeRO).
    """
    devices = mesh.devices.size

    def one(x: Any) -> NamedSharding:
        if is_split(x.shape, devices, how):
            return batch(mesh, axis=len(x.shape) - 1)
        return replicated(mesh)

    return jax.tree.map(one, shapes)


def abstract_state(shapes: Any, mesh: Mesh, how: str) -> Any:
    """Shapes, types and shardings of a state; arguments as in `of_state`."""
    shardings = of_state(shapes, mesh, how)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def bytes_on_device(shapes: Any, devices: int, how: str) -> int:
    """The bytes of a state on each of so many devices; arguments as in `of_state`."""

    def one(x: Any) -> int:
        parts = devices if is_split(x.shape, devices, how) else 1
        return math.prod(x.shape) * x.dtype.itemsize // parts

    return sum(map(one, jax.tree.leaves(shapes)))


def bytes_of(state: Any) -> int:
    """The bytes of a state, of which devices may have parts or copies."""
    return bytes_on_device(state, 1, "replicated")


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole, on the devices of all; each puts its own parts."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
