"""Networks of the paper on MNIST.

    python -m mgnet_jax.main --config=configs/mnist.py --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/mnist.py:paper --config.data.dir=FOLDER

small   MgNet[2,2,2,2]-[16]-B^l, 33,306 parameters, for CPUs: 99.59 % of the test images after 8
        epochs, last epoch, in 5 minutes on 2 CPU cores (benchmarks/README.md).
paper   MgNet[2,2,2,2]-[256]-B^l, 8,274,186 parameters, the paper's recipe; for an accelerator.
        The paper prints no MgNet on MNIST; not run here.
script  the same network with the published script's recipe: PyTorch's initialisation, 300 epochs
        counted from 1, the rate divided by 10 every 50, the images left over used. Not run here.

Images are 28x28. How the paper augments MNIST is not printed: here digits are not flipped, and
crops are from a padding of 2, in all presets.

Rows of the paper's Table 2, with its recipe: `table2-` and the network's name. None has been run to
the end here; the accuracies in %, of the best epoch, are those that the paper prints.

  resnet18-Ali-Bli           11,172,810    99.49
  resnet18-Al-Bli             8,039,370    99.61
  preact-resnet18-Ali-Bli    11,169,994    99.63
  preact-resnet18-Al-Bli      8,036,554    99.67
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset, recipes

DATA = {"data.name": "mnist", "data.crop_padding": 2, "data.flip": False}
MGNET = DATA | {"model.spec": "MgNet[2,2,2,2]-[256]-B^l"}
TABLE2 = [
    f"{pre_act}ResNet18-{A}-B^{{l,i}}" for pre_act in ("", "pre-act ") for A in ("A^{l,i}", "A^l")
]
PRESETS = {
    "small": DATA
    | recipes.SHORT
    | {
        "name": "mnist",
        "model.spec": "MgNet[2,2,2,2]-[16]-B^l",
        "train.epochs": 8,
        "log.every_steps": 78,
    },
    "paper": MGNET | recipes.PAPER | {"name": "mnist-paper"},
    "script": MGNET | recipes.SCRIPT | {"name": "mnist-script"},
    **recipes.rows(2, DATA | recipes.PAPER, TABLE2),
}


def get_config(preset: str = "small") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
