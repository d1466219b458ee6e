"""Keys of the network, and the network they make."""

from typing import Any

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key, at_least, choice
from mgnet_jax.data.info import Info
from mgnet_jax.models import CHOICES, ModelError, Network, create

KEYS = {
    "model.spec": Key("MgNet[2,2,2,2]-[256]-B^l", "network, by its name in the paper"),
    "model.stem": choice(
        "cifar",
        CHOICES["stem"],
        "first layers: 'cifar' is MNIST's too; half: ours, for a finest grid of half the size",
    ),
    "model.form": choice(
        "auto",
        CHOICES["form"],
        "Theorem 4.1, or Algorithms 2 and 3; same function; auto: dual where A is linear",
    ),
    "model.unroll": at_least(
        1, 4, "grids with more smoothing steps are compiled as a loop", bits=7
    ),
    "model.remat": choice(
        "none",
        CHOICES["remat"],
        "computed again in the backward pass, to save memory: batch norms and ReLU, or whole steps",
    ),
    "model.dtype": choice("float32", CHOICES["dtype"], "of the activations"),
    "model.initializer": choice("kaiming", CHOICES["initializer"], "the paper's, or PyTorch's"),
    "model.convolution": choice(
        "auto",
        CHOICES["convolution"],
        "xla: XLA's own, on CPUs slower in loops; minimal: on CPUs faster for wide networks; "
        "native: on CPUs twice as fast, by code that this machine's C++ compiler makes in seconds",
    ),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if there is no such network."""
    try:
        make_model(config, info)
    except ModelError as error:
        raise ConfigError(f"config.model.spec: {error}") from None


def make_model(config: ConfigDict, info: Info) -> Network:
    """The network of a configuration, for the classes of its data set.

    Raises:
      ModelError: there is no such network; for a validated configuration there is one.
    """
    return create(config.model.spec, info.num_classes, **model_options(config))


def model_options(config: ConfigDict) -> dict[str, Any]:
    """The options of `models.create` in a configuration: the section `model` without the spec."""
    return {key: value for key, value in config.model.items() if key != "spec"}
