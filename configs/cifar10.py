"""Networks of the paper on CIFAR-10.

    python -m mgnet_jax.main --config=configs/cifar10.py --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/cifar10.py:small --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/cifar10.py:laptop --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=cifar10:table3-resnet18-Al-Bli --config.data.dir=FOLDER

paper   MgNet[2,2,2,2]-[256]-B^l, 8,278,794 parameters, the paper's recipe; for an accelerator.
        The paper prints 96.00 % (Table 4, best epoch); not run to the end here.
script  the same network with the published script's recipe: PyTorch's initialisation, 300 epochs
        counted from 1, the rate divided by 10 every 50, the images left over used, and
        CIFAR-10's standard deviation a mean over images, (.2023, .1994, .2010). Not run here.
small   MgNet[1,1,1,2]-[16,32,64,128]-B^l, 589,338 parameters: 85.92 % of the test images after 10
        epochs, last epoch, in 35 minutes on 2 CPU cores that had other work too
        (benchmarks/README.md; 93 of the 60,000 images have pixels from a JPEG copy there).
laptop  MgNet[1,1,1]-[48,96,192]-B^l from a grid of 16x16, 1,292,458 parameters, with Muon
        (docs/decisions.md): 90.14 % after 11 epochs, last epoch, mean of 3 seeds, in 14 minutes
        each on 2 cores of an Intel Xeon (benchmarks/README.md).

Rows of the paper's tables, with its recipe: `table<n>-` and the network's name below. None has been
run to the end here; the accuracies in %, of the best epoch, are those that the paper prints.

Table 1, `table1-datafeature-A,B`, A beside and B above; with A = K and B = sKs it is MgNet
             K     sK     Ks    sKs
  K      71.36  93.04  93.80  94.21
  sK     92.13  92.44  93.79  93.57
  Ks     92.90  92.87  94.01  93.98
  sKs    93.20  93.93  94.08  94.11

Table 3; the counts printed beside the rows that share B fit the networks `-Bl-table3`
                             parameters  printed   with -table3
  resnet18-Ali-Bli           11,173,962    94.22
  resnet18-Ali-Bl            11,137,098    93.95      9,625,674
  resnet18-Al-Bli             8,040,522    94.34
  resnet18-Al-Bl              8,003,658    93.30      6,529,098
  preact-resnet18-Ali-Bli    11,171,146    94.31
  preact-resnet18-Ali-Bl     11,134,282    93.96      9,622,858
  preact-resnet18-Al-Bli      8,037,706    94.54
  preact-resnet18-Al-Bl       8,000,842    93.63      6,526,282
  resnet34-Ali-Bli           21,282,122    94.43
  resnet34-Ali-Bl            16,194,890    93.98     14,720,330
  resnet34-Al-Bli            13,098,314    94.78
  resnet34-Al-Bl              8,011,082    93.55      6,610,250
  preact-resnet34-Ali-Bli    21,279,306    94.70
  preact-resnet34-Ali-Bl     16,192,074    94.08     14,717,514
  preact-resnet34-Al-Bli     13,095,498    94.91
  preact-resnet34-Al-Bl       8,008,266    94.01      6,607,434

Table 4; wideresnet28x2 is WRN-28-10, as the printed count is
  alexnet                     2,472,266    76.22
  vgg19                      20,040,522    93.56
  resnet18                   11,173,962    95.28
  preact-resnet1001          10,327,706    95.08
  wideresnet28x2             36,479,194    95.83
  mgnet-2,2,2,2-256-Bl        8,278,794    96.00
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset, recipes

DATA = {"data.name": "cifar10"}
MGNET = DATA | {"model.spec": "MgNet[2,2,2,2]-[256]-B^l"}
FORMS = ("K", "sK", "Ks", "sKs")
TABLE1 = [f"DataFeature({A},{B})" for A in FORMS for B in FORMS]
TABLE3 = [
    f"{pre_act}ResNet{depth}-{A}-{B}"
    for depth in (18, 34)
    for pre_act in ("", "pre-act ")
    for A in ("A^{l,i}", "A^l")
    for B in ("B^{l,i}", "B^l", "B^l@table3")
]
TABLE4 = [
    "AlexNet",
    "VGG19",
    "ResNet18",
    "pre-act ResNet1001",
    "WideResNet28 * 2",
    "MgNet[2,2,2,2]-256-B^l",
]
PRESETS = {
    "paper": MGNET | recipes.PAPER | {"name": "cifar10"},
    "script": MGNET
    | recipes.SCRIPT
    | {
        "name": "cifar10-script",
        "data.mean": (0.4914, 0.4822, 0.4465),
        "data.std": (0.2023, 0.1994, 0.2010),
    },
    "small": DATA
    | recipes.SHORT
    | {"name": "cifar10-small", "model.spec": "MgNet[1,1,1,2]-[16,32,64,128]-B^l"},
    "laptop": DATA
    | recipes.LAPTOP
    | {"name": "cifar10-laptop", "model.spec": "MgNet[1,1,1]-[48,96,192]-B^l"},
    **recipes.rows(1, DATA | recipes.PAPER, TABLE1),
    **recipes.rows(3, DATA | recipes.PAPER, TABLE3),
    **recipes.rows(4, DATA | recipes.PAPER, TABLE4),
}


def get_config(preset: str = "paper") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
