"""The device mesh and how arrays lie on it: batches split over "data", everything else copied.

One device is a mesh of one, so that the same compiled program serves a laptop and a pod. Batch
norm sees the whole batch: its means are taken over the global array.
"""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, "data", over the given devices (default: all)."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Split over the devices along the given axis."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
