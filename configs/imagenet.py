"""Networks of the paper on ImageNet (ILSVRC 2012), on your own photographs, and a demonstration.

    python -m mgnet_jax.main --config=configs/imagenet.py --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=configs/imagenet.py:bfloat16 --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=imagenet:table11-mgnet-2,2,4,2-64,128,256,512-Bli
    python -m mgnet_jax.main --config=imagenet:photographs --config.data.dir=FOLDER
    python -m mgnet_jax.main --config=imagenet:demo

ImageNet is read as TensorFlow Datasets prepared it, or from class folders with
--config.data.source=folder. Its presets are for accelerators: training the smallest network once is
about 2.5e18 FLOPs. None of them has been run here; all accuracies in % are those that the paper
prints.

paper       MgNet[2,2,2,2]-[64,128,256,512]-B^l, 9,897,256 parameters, the paper's recipe: batches
            of 256, 150 epochs, rate 0.1 divided by 10 every 30. The paper prints 72.32 % (Table 9).
headline    MgNet[3,4,6,3]-[128,256,512,1024]-B^{l,i}, 71,270,504 parameters, the paper's best
            network with the same recipe. It prints 78.59 % (Table 4).
bfloat16    the network of `paper` with activations in bfloat16.
batch1024   that with batches of 1,024 and 4,096, for several devices: the rate grows as the batch
batch4096   does, after 5 epochs of warm-up (Goyal et al. 2017).
photographs the network of `paper` on FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg (or
            FOLDER/CLASS/*.jpg, of which a tenth is for testing), of which it has 9,384,256
            parameters, and 513 a class; batches of 64, 90 epochs, a cosine. Not run to the end.
demo        MgNet[2,2,2]-[16,32,64]-B^l, 146,707 parameters, on 64x64 crops of tiles of three
            photographs that come with other packages: 3 classes, 900 tiles to train on, 180 for
            tests from parts of the photographs that the others do not touch: 95.00 % of these
            after 30 epochs, last epoch, in a minute on 2 CPU cores; 98.33 and 100.00 % with
            seeds 1 and 2 (benchmarks/README.md).

Rows of the paper's tables, with its recipe: `table<n>-` and the network's name below.

                                      parameters  printed       %
Table 4
  alexnet                             60,965,224    60.2M   63.30  of seven networks; no AlexNet
                                                                   has this count, ResNet152 has
  vgg19                              143,667,240   144.0M   74.50  of many crops and sizes
  resnet18                            11,689,512    11.2M   72.12  of 10 crops; the count is that
                                                                   of 10 classes
  preact-resnet200                    64,666,280    64.7M   78.34
  wideresnet50x2                      68,883,240    68.9M   78.10
  mgnet-3,4,6,3-128,256,512,1024-Bli  71,270,504    71.3M   78.59
Table 6
  mgnet-2,2,2,2-64,128,256,512-Bl      9,897,256     9.9M   72.32
  mgnet-2,2,2,2-128,256,512,1024-Bl   38,520,424    38.5M   76.82
Table 9
  mgnet-2,2,2,2-64,128,256,512-Bl      9,897,256     9.9M   72.32
  mgnet-2,2,4,2-64,128,256,512-Bl      9,899,304     9.9M   73.04
  mgnet-2,2,8,2-64,128,256,512-Bl      9,903,400     9.9M   73.72
  mgnet-2,2,16,2-64,128,256,512-Bl     9,911,592     9.9M   73.81
Table 11
  mgnet-2,2,2,2-64,128,256,512-Bl      9,897,256     9.9M   72.32
  mgnet-2,2,2,2-64,128,256,512-Bli    13,030,696    13.0M   73.36
  mgnet-2,2,4,2-64,128,256,512-Bl      9,899,304     9.9M   73.04
  mgnet-2,2,4,2-64,128,256,512-Bli    14,212,392    14.7M   74.58  a misprint of 14.2M
  mgnet-2,2,2,2-128,256,512,1024-Bl   38,520,424    38.5M   76.82
  mgnet-2,2,2,2-128,256,512,1024-Bli  51,054,184    51.1M   77.27
  mgnet-2,2,4,2-128,256,512,1024-Bl   38,524,520    38.5M   77.58
  mgnet-2,2,4,2-128,256,512,1024-Bli  55,776,872    55.7M   77.94  cut off, not rounded
"""

from ml_collections import ConfigDict

from mgnet_jax.config import from_preset, recipes

PHOTOGRAPHS = {
    "data.crop_padding": 0,
    "data.flip": True,
    "model.stem": "imagenet",
    "checkpoint.every_steps": 1000,
    "log.every_steps": 100,
}
DATA = PHOTOGRAPHS | {
    "data.name": "imagenet",
    "data.source": "tfds",
    "log.measures": "top5",
}
SMALL, LARGE = "[64,128,256,512]", "[128,256,512,1024]"
MGNET = {"model.spec": f"MgNet[2,2,2,2]-{SMALL}-B^l"}
HEADLINE = f"MgNet[3,4,6,3]-{LARGE}-B^{{l,i}}"
TABLE4 = [
    "AlexNet",
    "VGG19",
    "ResNet18",
    "preact-ResNet200",
    "WideResNet50 * 2",
    HEADLINE,
]
TABLE6 = [f"MgNet[2,2,2,2]-{channels}-B^l" for channels in (SMALL, LARGE)]
TABLE9 = [f"MgNet[2,2,{nu},2]-{SMALL}-B^l" for nu in (2, 4, 8, 16)]
TABLE11 = [
    f"MgNet[2,2,{nu},2]-{channels}-{B}"
    for channels in (SMALL, LARGE)
    for nu in (2, 4)
    for B in ("B^l", "B^{l,i}")
]
PAPER = DATA | recipes.IMAGENET
PRESETS = {
    "paper": PAPER | MGNET | {"name": "imagenet"},
    "headline": PAPER | {"name": "imagenet-headline", "model.spec": HEADLINE},
    "bfloat16": PAPER | MGNET | {"name": "imagenet-bfloat16", "model.dtype": "bfloat16"},
    **{
        f"batch{batch}": PAPER
        | MGNET
        | recipes.large_batch(recipes.IMAGENET, batch)
        | {"name": f"imagenet-batch{batch}", "model.dtype": "bfloat16"}
        for batch in (1024, 4096)
    },
    "photographs": PHOTOGRAPHS
    | MGNET
    | recipes.SHORT
    | {
        "name": "imagenet-photographs",
        "data.name": "photographs",
        "data.source": "folder",
        "train.epochs": 90,
        "train.batch_size": 64,
        "optim.learning_rate": 0.025,
        "optim.weight_decay": 1e-4,
        "optim.warmup_epochs": 5.0,
        "log.every_steps": 10,
    },
    "demo": PHOTOGRAPHS
    | recipes.SHORT
    | {
        "name": "imagenet-demo",
        "data.name": "demo",
        "data.dir": "runs/demo-data",
        "data.source": "tfds",
        "model.spec": "MgNet[2,2,2]-[16,32,64]-B^l",
        "train.epochs": 30,
        "train.batch_size": 32,
        "optim.learning_rate": 0.025,
        "checkpoint.every_steps": 0,
        "log.every_steps": 7,
    },
    **recipes.rows(4, PAPER, TABLE4),
    **recipes.rows(6, PAPER, TABLE6),
    **recipes.rows(9, PAPER, TABLE9),
    **recipes.rows(11, PAPER, TABLE11),
}


def get_config(preset: str = "paper") -> ConfigDict:
    """The configuration of a preset."""
    return from_preset(PRESETS, preset)
