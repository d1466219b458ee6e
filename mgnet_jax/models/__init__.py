"""The networks: `create` makes one from the name that the paper gives it."""

from mgnet_jax.models.cost import Costs, Part, count, kept_bytes
from mgnet_jax.models.features import features
from mgnet_jax.models.network import CHOICES, Network
from mgnet_jax.models.notation import ModelError, Spec, SpecError, file_name
from mgnet_jax.models.registry import create, parse

__all__ = [
    "CHOICES",
    "Costs",
    "ModelError",
    "Network",
    "Part",
    "Spec",
    "SpecError",
    "count",
    "create",
    "features",
    "file_name",
    "kept_bytes",
    "parse",
]
