"""Whether a whole training step is right here: jitted, against one in float64 that is not."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgnet_jax.config import default
from mgnet_jax.models import SMALLEST, convolutions, create
from mgnet_jax.training import optim, sharding
from mgnet_jax.training.numerics import Check, bound, run, wide_type
from mgnet_jax.training.state import TrainState, create_state
from mgnet_jax.training.steps import make_train_step

IMAGE = (8, 8, 1)
IMAGES = 16
FACTORS = {"gpu": 2.0**-11, "tpu": 2.0**-8}
"""What a device rounds the factors of float32 products to: TF32, bfloat16."""


def train_steps(dtypes: Iterable[str], device: jax.Device) -> Iterator[Check]:
    """One step of the smallest network in each type: statistics, and parameters with momentum.

    The error of an array is the 2-norm of its difference, relative to the right one's; the worst
    array counts. A number has at most the error of one layer (which rounds three times: after the
    convolution, the batch norm and the sum) times the layers that it passes, forward and back. Of
    as large a share of the inputs of ReLU the derivative may be the other one, and the square root
    of that share is their part of a gradient's norm.
    """
    settings = default().optim
    settings.weight_decay = 0.01  # so that no parameter's update is zero
    optimizer = optim.make_optimizer(settings, optax.constant_schedule(0.1))
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (1, IMAGES, *IMAGE), np.uint8)
    labels = rng.integers(0, 10, (1, IMAGES)).astype(np.int32)

    def step(
        dtype: str, place: jax.Device, algorithm: str = "auto"
    ) -> Callable[[TrainState], TrainState]:
        one_step = make_train_step(
            create(SMALLEST, 10, dtype=dtype, convolution=algorithm),
            optimizer,
            sharding.make_mesh([place]),
            mean=(0.5,),
            std=(0.3,),
            label_smoothing=0.1,
            ema_decay=0.0,
        )

        def new_state(state: TrainState) -> TrainState:
            key = jax.random.key(0)
            return one_step(state, jnp.asarray(images), jnp.asarray(labels), key)[0]

        return new_state

    plain = create(SMALLEST, 10)
    start = run("float32", lambda: create_state(plain, optimizer, jax.random.key(0), IMAGE))
    host = _host() or device
    with jax.default_device(host), jax.enable_x64(True), jax.disable_jit():
        right = step("float64", host, "xla")(jax.tree.map(jnp.asarray, _cast(start, "float64")))
    expected = right.params, right.opt_state
    passed = 2 * len(convolutions(plain, IMAGE))
    for dtype in dtypes:
        new = run(dtype, step(dtype, device), _cast(start, wide_type(dtype)))
        got = new.params, new.opt_state
        rounded = FACTORS.get(device.platform, 0.0) if dtype == "float32" else 0.0
        share = 3 * passed * (rounded + bound(dtype, IMAGES * IMAGE[0] * IMAGE[1]))
        yield _worst("batch statistics", dtype, new.batch_stats, right.batch_stats, share)
        yield _worst("parameters, momentum", dtype, got, expected, share + math.sqrt(share))


def _host() -> Any:
    """The CPU, if JAX was not told to leave it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _cast(state: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype == np.float32 else x, state)


def _worst(name: str, dtype: str, got: Any, right: Any, limit: float) -> Check:
    def error(a: Any, b: Any) -> float:
        wide = np.asarray(b, np.float64)
        difference = np.linalg.norm(np.asarray(a, np.float64) - wide)
        return float(difference) / max(float(np.linalg.norm(wide)), 1e-30)

    errors = jax.tree.leaves(jax.tree.map(error, got, right))
    return Check(f"a training step: {name}", dtype, float(np.max(errors)), limit)
