"""The memory told before training: within 15 % of what the compiler needs; too much is refused."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import command

import mgnet_jax
from mgnet_jax.config import ConfigError, default, make_model
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.data.info import Info
from mgnet_jax.data.sources import DataSet
from mgnet_jax.training import plan, sharding, steps
from mgnet_jax.training.job import Job
from mgnet_jax.training.memory import estimate_memory, make_memory
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state

TRAIN = {"accumulate": 1, "ema_decay": 0.0}


def needed(model: Any, image: tuple[int, int, int], batch: int) -> int:
    """Bytes that the compiler reports for one step whose state is replaced in place."""
    optimizer = make_optimizer(default().optim, make_schedule(default().optim, 1, 20))
    step = steps.make_train_step(
        model,
        optimizer,
        sharding.make_mesh(jax.devices()[:1]),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        augmentation=Augmentation(crop_padding=0, flip=True),
        label_smoothing=0.0,
        ema_decay=0.0,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: create_state(model, optimizer, key, image), key)
    images = jax.ShapeDtypeStruct((1, batch, *image), np.uint8)
    labels = jax.ShapeDtypeStruct((1, batch), np.int32)
    memory: Any = jax.jit(step, donate_argnums=0).lower(state, images, labels, key).compile()
    memory = memory.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


@pytest.mark.parametrize(
    ("name", "size", "batch", "classes", "options"),
    [
        pytest.param(
            "MgNet[2,2,2,2]-[64,128,256,512]-B^l",
            *(224, 8, 1000, {"stem": "imagenet"}),
            marks=pytest.mark.slow,
        ),
        ("MgNet[2,2]-[64]-B^l", 32, 32, 10, {"dtype": "bfloat16"}),
        ("MgNet[2,3]-[64]-B^{l,i}", 32, 32, 10, {"remat": "steps"}),
        pytest.param(  # 37 images: some are left for the end of each gradient of a kernel
            *("MgNet[2,3]-[64]-B^{l,i}", 32, 37, 10, {"remat": "steps"}), marks=pytest.mark.slow
        ),
    ],
)
def test_the_estimate_is_what_the_compiler_needs(
    name: str, size: int, batch: int, classes: int, options: dict[str, Any]
) -> None:
    model, image = mgnet_jax.create(name, classes, **options), (size, size, 3)
    info, train = Info("", image, classes, 0, 0, (), ()), TRAIN | {"batch_size": batch}
    estimate = estimate_memory(model, info, mgnet_jax.count(model, image), train)
    assert 0.85 < estimate.total / needed(model, image, batch) < 1.15


def test_the_line_says_what_is_what_and_the_sum() -> None:
    model, info = mgnet_jax.create("MgNet[2]-[8]-B^l", 10), Info("", (8, 8, 3), 10, 90, 10, (), ())
    costs = mgnet_jax.count(model, info.image_shape)
    train = {"batch_size": 16, "accumulate": 2, "ema_decay": 0.9}
    estimate = estimate_memory(model, info, costs, train)
    assert estimate.weights == 3 * 4 * costs.parameters
    assert estimate.data == 100 * 8 * 8 * 3
    assert estimate.batch == 8
    assert estimate_memory(model, info, costs, train, devices=2).batch == 4
    assert estimate_memory(model, info, costs, train, images=20).data == 20 * 8 * 8 * 3
    line = str(estimate_memory(model, info, costs, train))
    for words in (
        "MiB weights and momentum, ",
        "MiB activations and ",
        "working memory for a batch of 8, ",
        "MiB images: in all about ",
    ):
        assert words in line
    total = sum((estimate.weights, estimate.activations, estimate.working, estimate.data))
    assert f"in all about {total / 2**20:,.1f} MiB on each device" in line


def test_what_cannot_fit_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    assert command(workdir, "--config.model.spec=MgNet[1,1]-[99999]-B^l") == 2
    assert "config.supervise.require_memory=False tries it all the same" in capsys.readouterr().err
    assert not workdir.exists()


@pytest.mark.parametrize(("share", "fits"), [(0.99, False), (1.01, True)])
def test_the_estimate_decides(share: float, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = default()
    info = Info("digits", (8, 8, 1), 10, 1438, 359, (0.3,), (0.4,))
    model = make_model(config, info)
    costs = mgnet_jax.count(model, info.image_shape)
    shapes = Job(config, DataSet(info, None, None, ())).state_shapes
    total = make_memory(config, model, info, costs, shapes, jax.device_count()).total
    monkeypatch.setattr(plan, "device_memory", lambda _: int(share * total))
    with contextlib.nullcontext() if fits else pytest.raises(ConfigError, match="takes about"):
        plan.require_memory(config, info, model, costs)
    config.supervise.require_memory = False
    plan.require_memory(config, info, model, costs)


def test_what_surely_fits_does() -> None:
    """The bound that takes no time is one, for networks of all kinds."""
    info = Info("", (32, 32, 3), 10, 100, 20, (0.5,) * 3, (0.2,) * 3)
    for name in ("MgNet[2,2]-[16]-B^l", "ResNet18-A^{l,i}-B^{l,i}", "AlexNet", "ResNet50"):
        config = default()
        config.model.spec, config.train.batch_size = name, 16
        model = make_model(config, info)
        costs = mgnet_jax.count(model, info.image_shape)
        estimate = estimate_memory(model, info, costs, config.train)
        for limit in (estimate.total, 2 * estimate.total):
            assert not plan._surely_fits(config, costs, limit), name
