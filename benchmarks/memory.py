"""Memory of a training step: what the summary estimates, and what the compiler then reports.

    python benchmarks/memory.py
    python benchmarks/memory.py --convolution=native
    python benchmarks/memory.py 'pre-act ResNet164' --image=32,32,3 --batch=16 --classes=10

Nothing is run: a step on images that are given, and with --chunk a loop of steps on a data set of
64 batches that lies on the device, are compiled for one device, each with its state replaced in
place. The compiler's figure is what it is given, what it gives beyond that, and its working memory.
"""

import argparse
import itertools
import os
import platform
from typing import Any

import jax
import numpy as np

from mgnet_jax import count, create
from mgnet_jax.config import default
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.data.info import ImageSet, Info
from mgnet_jax.data.order import Batches
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.feed import ResidentTraining
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.memory import MemoryEstimate, estimate_memory
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state

Shape = tuple[int, int, int]
TYPES = ("float32", "bfloat16")
IMAGENET = {"image": (224, 224, 3), "classes": 1000, "stem": "imagenet"}
CIFAR = {"image": (32, 32, 3), "classes": 10}
CASES = [
    *(
        {"spec": "MgNet[2,2,2,2]-[64,128,256,512]-B^l", "batch": batch, **IMAGENET, **options}
        for batch in (8, 16)
        for options in ({"dtype": d, "remat": r} for d in TYPES for r in ("none", "norms", "steps"))
    ),
    *(
        {"spec": "ResNet18", "batch": 8, **IMAGENET, "dtype": d, "remat": r}
        for d, r in itertools.product(TYPES, ("none", "norms", "steps"))
    ),
    *(
        {"spec": "MgNet[2,2,2,2]-[256]-B^l", "batch": 32, **CIFAR, "dtype": d, "remat": r}
        for d, r in itertools.product(TYPES, ("none", "norms", "steps"))
    ),
    {"spec": "MgNet[2,2,16,2]-[64,128,256,512]-B^l", "batch": 8, **IMAGENET},
    {
        "spec": "MgNet[3,4,6,3]-[128,256,512,1024]-B^{l,i}",
        "batch": 4,
        **IMAGENET,
        "dtype": "bfloat16",
    },
    {"spec": "ResNet50", "batch": 4, **IMAGENET},
    {"spec": "MgNet[2,2,2,2]-[16]-B^l", "batch": 128, "image": (28, 28, 1), "classes": 10},
    {"spec": "MgNet[1,1,1,2]-[16,32,64,128]-B^l", "batch": 128, **CIFAR},
    {"spec": "MgNet[2,2,2,2]-[64]-B^l", "batch": 32, **CIFAR, "form": "direct"},
    {"spec": "MgNet[8,2]-[32]-B^l", "batch": 32, **CIFAR},
    {"spec": "DataFeature(sK,Ks)", "batch": 32, **CIFAR},
    {"spec": "pre-act ResNet34-A^l-B^{l,i}", "batch": 32, **CIFAR},
    {"spec": "pre-act ResNet164", "batch": 16, **CIFAR},
    {"spec": "WRN-28-2", "batch": 16, **CIFAR},
    {"spec": "VGG19", "batch": 32, **CIFAR},
    {"spec": "AlexNet", "batch": 64, **CIFAR},
    {"spec": "MgNet[2,2,2,2]-[64]-B^l", "batch": 32, **CIFAR, "chunk": True},
    {"spec": "MgNet[2,2,2,2]-[64]-B^l", "batch": 32, **CIFAR, "chunk": True, "accumulate": 2},
    {"spec": "MgNet[2,2,2,2]-[64]-B^l", "batch": 32, **CIFAR, "ema_decay": 0.99},
]


def measure(
    spec: str,
    image: Shape,
    classes: int,
    batch: int,
    chunk: bool = False,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    **options: Any,
) -> tuple[MemoryEstimate, int]:
    """The estimate, and the compiler's bytes."""
    model, optim = create(spec, classes, **options), default().optim
    optimizer = make_optimizer(optim, make_schedule(optim, 1, 20))
    mesh = sharding.make_mesh(jax.devices()[:1])
    step = steps.make_train_step(
        model,
        optimizer,
        mesh,
        mean=(0.5,) * image[2],
        std=(0.25,) * image[2],
        augmentation=Augmentation(crop_padding=0, flip=True),
        label_smoothing=0.0,
        ema_decay=ema_decay,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(
        lambda key: create_state(model, optimizer, key, image, ema_decay > 0), key
    )
    size = 64 * batch if chunk else batch
    shape = (size,) if chunk else (accumulate, batch // accumulate)
    images = jax.ShapeDtypeStruct((*shape, *image), np.uint8)
    labels = jax.ShapeDtypeStruct(shape, np.int32)
    if chunk:
        whole = ImageSet(np.zeros(images.shape, np.uint8), np.zeros(size, np.int32))
        feed = ResidentTraining(whole, Batches(size, batch, accumulate), mesh)
        jitted = steps.make_train_chunk(step, feed, mesh)
        lowered = jitted.lower(state, Metrics.zero(), feed.abstract(batch), 1, key)
    else:
        lowered = jax.jit(step, donate_argnums=0).lower(state, images, labels, key)
    needed = lowered.compile().memory_analysis()
    info = Info("", image, classes, size if chunk else 0, 0, (), ())
    train = {"batch_size": batch, "accumulate": accumulate, "ema_decay": ema_decay}
    return estimate_memory(model, info, count(model, image), train), (
        needed.argument_size_in_bytes
        + needed.output_size_in_bytes
        - needed.alias_size_in_bytes
        + needed.temp_size_in_bytes
    )


def main() -> None:
    """Prints a table of the cases above, or one case of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", nargs="?")
    parser.add_argument("--image", default="224,224,3", help="height,width,channels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--stem", default="cifar")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--chunk", action="store_true", help="a loop of steps")
    parser.add_argument("--convolution", default="auto", help="model.convolution of all cases")
    args = parser.parse_args()
    cases: list[dict[str, Any]] = CASES
    if args.spec:
        image = tuple(int(n) for n in args.image.split(","))
        cases = [vars(args) | {"image": image}]
    elif args.convolution != "auto":
        cases = [case | {"convolution": args.convolution} for case in CASES]
    print(
        f"jax {jax.__version__}, Python {platform.python_version()}, {os.cpu_count()} x "
        f"{jax.devices()[0].device_kind} ({platform.machine()}); MiB"
    )
    print("estimate  compiler   ratio  weights  activations  working  data   network")
    for case in cases:
        estimate, needed = measure(**case)
        parts = estimate.weights, estimate.activations, estimate.working, estimate.data
        weights, activations, working, data = (f"{n / 2**20:.1f}" for n in parts)
        words = ", ".join(
            f"{key} {'x'.join(map(str, value)) if key == 'image' else value}"
            for key, value in case.items()
            if key not in ("spec", "classes") and value
        )
        print(
            f"{estimate.total / 2**20:8.1f}  {needed / 2**20:8.1f}  {estimate.total / needed:6.3f}"
            f"  {weights:>7}  {activations:>11}  {working:>7}  {data:>4}   {case['spec']}, {words}",
            flush=True,
        )


if __name__ == "__main__":
    main()
