"""A small MgNet on MNIST, for CPUs.

    python -m mgnet_jax.main --config=configs/mnist.py --config.data.dir=FOLDER

MgNet[2,2,2,2]-[16]-B^l, 33,306 parameters: 99.59 % of the test images after 8 epochs, last epoch,
in 5 minutes on 2 CPU cores (benchmarks/README.md).
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset

SMALL = {
    "name": "mnist",
    "data.name": "mnist",
    "data.crop_padding": 2,
    "data.flip": False,
    "model.spec": "MgNet[2,2,2,2]-[16]-B^l",
    "train.epochs": 8,
    "train.batch_size": 128,
    "optim.learning_rate": 0.1,
    "optim.nesterov": True,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 1.0,
    "log.every_steps": 78,
}
PRESETS = {"small": SMALL}


def get_config(preset: str = "small") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
