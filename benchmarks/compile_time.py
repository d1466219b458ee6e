"""Seconds to trace and to compile one training step on CIFAR's 32x32x3 images, without a cache.

python benchmarks/compile_time.py --spec='pre-act ResNet1001' --batch=32
"""

import argparse
import time

import jax
import numpy as np

from mgnet_jax import create
from mgnet_jax.config import default
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="MgNet[2,2,2,2]-[256]-B^l")
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    optim, model, image = default().optim, create(args.spec, 10), (32, 32, 3)
    optimizer = make_optimizer(optim, make_schedule(optim, 1, 20))
    step = jax.jit(
        steps.make_train_step(
            model,
            optimizer,
            sharding.make_mesh(jax.devices()[:1]),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            augmentation=Augmentation(crop_padding=4, flip=True),
            label_smoothing=0.0,
            ema_decay=0.0,
        )
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: create_state(model, optimizer, key, image), key)
    images = jax.ShapeDtypeStruct((1, args.batch, *image), np.uint8)
    labels = jax.ShapeDtypeStruct((1, args.batch), np.int32)
    begun = time.perf_counter()
    lowered = step.lower(state, images, labels, key)
    traced = time.perf_counter()
    lowered.compile()
    done = time.perf_counter()
    print(
        f"{args.spec}, batch {args.batch}, jax {jax.__version__}, {jax.devices()[0].device_kind}: "
        f"traced in {traced - begun:.2f} s, compiled in {done - traced:.2f} s"
    )


if __name__ == "__main__":
    main()
