"""Pooling, response normalisation and convolution against torch.nn.functional, at any size."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch
from torch.nn import functional

from mgnet_jax.models import alexnet, convolution, layers

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def ours_and_torchs(*shape: int) -> tuple[jax.Array, torch.Tensor]:
    """The same random numbers as (N, H, W, C) here and as (N, C, H, W) there."""
    x = np.random.default_rng(0).normal(size=shape)
    return jnp.asarray(np.moveaxis(x, 1, -1)), torch.from_numpy(x).requires_grad_()


def assert_same(ours: Any, theirs: torch.Tensor) -> None:
    expected = np.moveaxis(theirs.detach().numpy(), 1, -1)
    assert ours.dtype == np.float64
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= 1e-13 * np.abs(expected).max()


@pytest.mark.parametrize(("size", "padding"), [(2, 0), (3, 0), (3, 1)])
def test_max_pool(size: int, padding: int) -> None:
    accepted = 0
    for height, width in itertools.product(range(1, 6), repeat=2):
        x, x_torch = ours_and_torchs(2, 3, height, width)
        pooled = layers.max_pool(x, size, 2, padding)
        if min(height, width) + 2 * padding >= size:
            assert_same(pooled, functional.max_pool2d(x_torch, size, 2, padding))
            accepted += 1
            continue
        with pytest.raises(RuntimeError):
            functional.max_pool2d(x_torch, size, 2, padding)
        window = (min(size, height), min(size, width))  # the grid is pooled whole
        assert_same(pooled, functional.max_pool2d(x_torch, window, 2))
    assert accepted >= 9


@pytest.mark.parametrize("size", [6, 7])
def test_adaptive_average_pool(size: int) -> None:
    for height, width in [(1, 2), (3, 13), (6, 6), (7, 7), (8, 9), (20, 5)]:
        x, x_torch = ours_and_torchs(2, 3, height, width)
        expected = functional.adaptive_avg_pool2d(x_torch, size)
        assert_same(layers.adaptive_average_pool(x, size), expected)


@pytest.mark.parametrize("channels", [1, 4, 5, 11])
def test_local_response_norm(channels: int) -> None:
    """PyTorch divides alpha by the size, so that 1e-4 here is 5e-4 there."""
    x, x_torch = ours_and_torchs(2, channels, 3, 4)
    x, x_torch = 100 * x, 100 * x_torch  # the sum of squares counts
    x_torch.retain_grad()
    expected = functional.local_response_norm(x_torch, 5, alpha=5e-4, beta=0.75, k=2.0)
    expected.sin().sum().backward()
    normalise = alexnet.local_response_norm
    assert_same(jax.jit(normalise)(x), expected)
    gradient = jax.jit(jax.grad(lambda x: jnp.sin(normalise(x)).sum()))(x)
    assert_same(gradient, x_torch.grad)


@pytest.mark.parametrize("algorithm", convolution.ALGORITHMS)
@pytest.mark.parametrize(
    ("size", "stride", "padding", "groups"),
    [
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (1, 2, 0, 1),
        (7, 2, 3, 1),
        (11, 4, 5, 1),
        (11, 4, 2, 1),
        (5, 1, 2, 2),
        (3, 1, 1, 2),
    ],
)
def test_convolution(size: int, stride: int, padding: int, groups: int, algorithm: str) -> None:
    kernel = np.random.default_rng(1).normal(size=(6, 4 // groups, size, size))
    for height, width in [(12, 11), (9, 14)]:
        x, x_torch = ours_and_torchs(2, 4, height, width)
        kernel_torch = torch.from_numpy(kernel).requires_grad_()
        expected = functional.conv2d(
            x_torch, kernel_torch, stride=stride, padding=padding, groups=groups
        )
        expected.sin().sum().backward()

        def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return convolution.conv(
                x, kernel, stride, padding=padding, groups=groups, algorithm=algorithm
            )

        kernel_ours = jnp.asarray(kernel.transpose(2, 3, 1, 0))
        assert_same(conv(x, kernel_ours), expected)
        grad = jax.grad(lambda *args, conv=conv: jnp.sin(conv(*args)).sum(), (0, 1))
        grad_x, grad_kernel = grad(x, kernel_ours)
        assert_same(grad_x, x_torch.grad)
        assert_same(grad_kernel, kernel_torch.grad.permute(2, 0, 3, 1))
