"""Kinds of accelerators by name, as their makers publish them; nothing here was measured."""

import dataclasses

from mgnet_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A kind of device, one of what JAX calls a device.

    Attributes:
      name: of --kind.
      bfloat16: peak FLOP/s of convolutions in bfloat16, dense.
      float32: peak FLOP/s of float32 convolutions as JAX computes them there by default.
      memory: bytes of a device.
      usable: share of it that JAX takes by default.
      link: bytes/s that a device sends to others in an all-reduce, one direction.
      joined: devices that these links join; more of them talk over a slower network too.
    """

    name: str
    bfloat16: float
    float32: float
    memory: float
    usable: float
    link: float
    joined: int


# GPUs: NVIDIA's data sheets of the V100, A100, H100 and H200 Tensor Core GPUs, SXM modules, figures
# without sparsity. float32 is TF32, but on the V100, which has neither TF32 nor bfloat16 and
# computes both in float32. Links: NVLink, of whose published sum half is one direction; 8 GPUs are
# joined (HGX). JAX takes 75 % of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says more.
# Of two sizes of memory the plain name has the smaller.
#
# TPUs: the pages "TPU v3" to "TPU v6e" of cloud.google.com/tpu/docs. JAX computes float32
# convolutions there in bfloat16 passes, one by default. A device is a chip, of v3 one of its two
# cores. Links: of v3, v4, v5e and v6e the pod's all-reduce bandwidth over its chips, of v5p half of
# the bidirectional bandwidth of a chip: that of all its links, which a small slice may not all use.
_GB, _GIB = 1e9, 2.0**30
_KINDS = (
    Accelerator("v100", 15.7e12, 15.7e12, 16 * _GB, 0.75, 150e9, 8),
    Accelerator("v100-32gb", 15.7e12, 15.7e12, 32 * _GB, 0.75, 150e9, 8),
    Accelerator("a100", 312e12, 156e12, 40 * _GB, 0.75, 300e9, 8),
    Accelerator("a100-80gb", 312e12, 156e12, 80 * _GB, 0.75, 300e9, 8),
    Accelerator("h100", 989e12, 494e12, 80 * _GB, 0.75, 450e9, 8),
    Accelerator("h200", 989e12, 494e12, 141 * _GB, 0.75, 450e9, 8),
    Accelerator("tpu-v3", 61.5e12, 61.5e12, 16 * _GIB, 1.0, 340e12 / 2048, 2048),
    Accelerator("tpu-v4", 275e12, 275e12, 32 * _GIB, 1.0, 1.1e15 / 4096, 4096),
    Accelerator("tpu-v5e", 197e12, 197e12, 16 * _GB, 1.0, 51.2e12 / 256, 256),
    Accelerator("tpu-v5p", 459e12, 459e12, 95 * _GB, 1.0, 600e9, 8960),
    Accelerator("tpu-v6e", 918e12, 918e12, 32 * _GB, 1.0, 102.4e12 / 256, 256),
)
KINDS: dict[str, Accelerator] = {kind.name: kind for kind in _KINDS}
"""Every kind by its name."""


def find(name: str) -> Accelerator:
    """The kind of a name.

    Raises:
      ConfigError: there is no such kind; the message lists those that there are.
    """
    if name.lower() not in KINDS:
        raise ConfigError(f"--kind={name} is not known; there are {', '.join(KINDS)}")
    return KINDS[name.lower()]


def peak(kind: Accelerator, dtype: str) -> float:
    """Peak FLOP/s of a kind for activations of a type.

    Raises:
      ConfigError: no figure is known, as for float64.
    """
    if dtype not in ("bfloat16", "float32"):
        raise ConfigError(f"config.model.dtype={dtype!r}: --mode=plan knows bfloat16 and float32")
    return kind.bfloat16 if dtype == "bfloat16" else kind.float32
