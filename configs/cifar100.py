"""Networks of the paper on CIFAR-100.

    python -m mgnet_jax.main --config=configs/cifar100.py --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/cifar100.py:small --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/cifar100.py:laptop --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=cifar100:table3-resnet18-Al-Bli --config.data.dir=FOLDER

paper   MgNet[2,2,2,2]-[256]-B^l, 8,301,924 parameters, the paper's recipe; for an accelerator.
        The paper prints 79.94 % (Table 5, best epoch); not run to the end here.
script  the same network with the published script's recipe: PyTorch's initialisation, 300 epochs
        counted from 1, the rate divided by 10 every 50, the images left over used. Not run
        here.
small   MgNet[1,1,1,2]-[16,32,64,128]-B^l, 600,948 parameters: 58.13 % of the test images after 10
        epochs, last epoch, in 26 minutes on 2 CPU cores that had other work too
        (benchmarks/README.md).
laptop  MgNet[1,1,1]-[48,96,192]-B^l from a grid of 16x16, 1,309,828 parameters, with Muon
        (docs/decisions.md), as for CIFAR-10: 65.27 % after 11 epochs, last epoch, mean of 3 seeds,
        in 10.6 minutes each on 2 cores of an Intel Xeon by --config.model.convolution=native;
        65.19 %, one seed, in 15.5 minutes without it (benchmarks/README.md).

Rows of the paper's tables, with its recipe: `table<n>-` and the network's name below. None has been
run to the end here; the accuracies in %, of the best epoch, are those that the paper prints.

Table 3; the counts printed beside the rows that share B fit the networks `-Bl-table3`
                             parameters  printed   with -table3
  resnet18-Ali-Bli           11,220,132    76.08
  resnet18-Ali-Bl            11,183,268    74.23      9,671,844
  resnet18-Al-Bli             8,086,692    76.32
  resnet18-Al-Bl              8,049,828    74.85      6,575,268
  preact-resnet18-Ali-Bli    11,217,316    76.33
  preact-resnet18-Ali-Bl     11,180,452    74.45      9,669,028
  preact-resnet18-Al-Bli      8,083,876    76.43
  preact-resnet18-Al-Bl       8,047,012    74.46      6,572,452
  resnet34-Ali-Bli           21,328,292    76.31
  resnet34-Ali-Bl            16,241,060    74.48     14,766,500
  resnet34-Al-Bli            13,144,484    76.44
  resnet34-Al-Bl              8,057,252    74.46      6,656,420
  preact-resnet34-Ali-Bli    21,325,476    77.38
  preact-resnet34-Ali-Bl     16,238,244    75.32     14,763,684
  preact-resnet34-Al-Bli     13,141,668    77.41
  preact-resnet34-Al-Bl       8,054,436    74.12      6,653,604

Table 4; wideresnet40x2 is WRN-28-10, as the printed count is
  alexnet                     2,495,396    43.87
  vgg19                      20,086,692    71.95
  resnet18                   11,220,132    77.54
  preact-resnet1001          10,350,836    77.29
  wideresnet40x2             36,536,884    79.50
  mgnet-2,2,2,2-256-Bl        8,301,924    79.94

Table 5; the paper prints 12.5M beside 64,128,256,512
  mgnet-2,2,2,2-256-Bl                    8,301,924    79.94
  mgnet-2,2,2,2-512-Bl                   33,118,820    81.35
  mgnet-2,2,2,2-768-Bl                   74,450,788    81.74
  mgnet-2,2,2,2-1024-Bl                 132,297,828    81.89
  mgnet-2,2,2,2-32,64,128,256-Bl          2,373,124    74.95
  mgnet-2,2,2,2-64,128,256,512-Bl         9,427,876    78.06
  mgnet-2,2,2,2-128,256,512,1024-Bl      37,582,564    80.29
  mgnet-2,2,2,2-256,512,1024,2048-Bl    150,072,676    81.49
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset, recipes

DATA = {"data.name": "cifar100"}
MGNET = DATA | {"model.spec": "MgNet[2,2,2,2]-[256]-B^l"}
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
    "preact-ResNet1001",
    "WideResNet40 * 2",
    "MgNet[2,2,2,2]-256-B^l",
]
CHANNELS = ("256", "512", "768", "1024")
CHANNELS += ("32,64,128,256", "64,128,256,512", "128,256,512,1024", "256,512,1024,2048")
TABLE5 = [f"MgNet[2,2,2,2]-[{channels}]-B^l" for channels in CHANNELS]
PRESETS = {
    "paper": MGNET | recipes.PAPER | {"name": "cifar100"},
    "script": MGNET | recipes.SCRIPT | {"name": "cifar100-script"},
    "small": DATA
    | recipes.SHORT
    | {"name": "cifar100-small", "model.spec": "MgNet[1,1,1,2]-[16,32,64,128]-B^l"},
    "laptop": DATA
    | recipes.LAPTOP
    | {"name": "cifar100-laptop", "model.spec": "MgNet[1,1,1]-[48,96,192]-B^l"},
    **recipes.rows(3, DATA | recipes.PAPER, TABLE3),
    **recipes.rows(4, DATA | recipes.PAPER, TABLE4),
    **recipes.rows(5, DATA | recipes.PAPER, TABLE5),
}


def get_config(preset: str = "paper") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
