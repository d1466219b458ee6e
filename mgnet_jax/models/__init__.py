"""The networks: `create` makes one from the name that the paper gives it."""

from mgnet_jax.models.cost import Convolution, Costs, Part, convolutions, count, kernel_reads
from mgnet_jax.models.features import features
from mgnet_jax.models.memory import Memory, step_memory
from mgnet_jax.models.network import CHOICES, PAPER, Network
from mgnet_jax.models.notation import ModelError, Spec, SpecError, file_name
from mgnet_jax.models.registry import SMALLEST, create, parse

__all__ = [
    "CHOICES",
    "PAPER",
    "SMALLEST",
    "Convolution",
    "Costs",
    "Memory",
    "ModelError",
    "Network",
    "Part",
    "Spec",
    "SpecError",
    "convolutions",
    "count",
    "create",
    "features",
    "file_name",
    "kernel_reads",
    "parse",
    "step_memory",
]
