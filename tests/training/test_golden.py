"""Numbers that a change that should not move them must not move, in float64.

The sums over all parameters and statistics, after their sine, of 20 SGD steps of two MgNets at a
fixed seed, as commit 2c9446d computed them, when MgNet was the only family.
"""

from typing import Any

import jax
import numpy as np
import pytest

from mgnet_jax import create
from mgnet_jax.config import default
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state


def train(name: str, count: int) -> Any:
    rng, optim = np.random.default_rng(0), default().optim
    optim.schedule = "constant"
    optimizer = make_optimizer(optim, make_schedule(optim, 1, count))
    model = create(name, 10, dtype="float64")
    state = create_state(model, optimizer, jax.random.key(0), (8, 8, 1))
    step = jax.jit(
        steps.make_train_step(
            model,
            optimizer,
            sharding.make_mesh(jax.devices()[:1]),
            mean=(0.3,),
            std=(0.4,),
            augmentation=Augmentation(crop_padding=1, flip=True),
            label_smoothing=0.1,
            ema_decay=0.0,
        )
    )
    for i in range(count):
        images = rng.integers(0, 256, (1, 8, 8, 8, 1), np.uint8)
        labels = rng.integers(0, 10, (1, 8)).astype(np.int32)
        state, _ = step(state, images, labels, jax.random.key(i))
    return state


@pytest.mark.parametrize(
    ("name", "params", "batch_stats"),
    [
        ("MgNet[2,2,2]-[4]-B^l", 34.61768878280892, 27.0805348859744),
        pytest.param(
            *("MgNet[5,1]-[(3,4),(4,2)]-B^{l,i}", 33.85765824542098, 45.512141118771304),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_golden_parameters(name: str, params: float, batch_stats: float) -> None:
    with jax.enable_x64(True):
        state = train(name, 20)
        sums = [
            sum(float(np.sum(np.sin(np.asarray(x)))) for x in jax.tree.leaves(tree))
            for tree in (state.params, state.batch_stats)
        ]
    np.testing.assert_allclose(sums, [params, batch_stats], rtol=1e-9)
