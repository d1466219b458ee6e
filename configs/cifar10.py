"""MgNet on CIFAR-10.

    python -m mgnet_jax.main --config=configs/cifar10.py --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/cifar10.py:small --config.data.dir=FOLDER

paper   MgNet[2,2,2,2]-[256]-B^l, 8,278,794 parameters, the paper's recipe; for an accelerator.
        The paper prints 96.00 % (Table 4, best epoch); not run to the end here.
script  the same network with the published script's recipe: PyTorch's initialisation, 300 epochs,
        the rate divided by 10 every 50. Not run to the end here.
small   MgNet[1,1,1,1]-[16,32,64,128]-B^l, 588,826 parameters: 85.14 % of the test images after 10
        epochs, last epoch, in 12 minutes on 2 CPU cores (benchmarks/README.md; 93 of the
        60,000 images have pixels from a JPEG copy there).
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset

PAPER = {
    "name": "cifar10",
    "data.name": "cifar10",
    "model.spec": "MgNet[2,2,2,2]-[256]-B^l",
    "train.epochs": 150,
    "train.batch_size": 128,
    "optim.learning_rate": 0.1,
    "optim.weight_decay": 5e-4,
    "optim.schedule": "step",
    "optim.step_epochs": 30,
}
PRESETS = {
    "paper": PAPER,
    "script": PAPER
    | {
        "name": "cifar10-script",
        "model.initializer": "pytorch",
        "train.epochs": 300,
        "optim.step_epochs": 50,
    },
    "small": PAPER
    | {
        "name": "cifar10-small",
        "model.spec": "MgNet[1,1,1,1]-[16,32,64,128]-B^l",
        "train.epochs": 10,
        "optim.nesterov": True,
        "optim.schedule": "cosine",
        "optim.warmup_epochs": 1.0,
    },
}


def get_config(preset: str = "paper") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
