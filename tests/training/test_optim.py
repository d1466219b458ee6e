"""SGD against a NumPy reference of PyTorch's, and the learning-rate schedules."""

from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from mgnet_jax.config import default
from mgnet_jax.training.optim import decay_mask, make_optimizer, make_schedule, orthogonal


def pytorch_sgd(
    weights: np.ndarray,
    gradients: list[np.ndarray],
    rates: list[float],
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> list[np.ndarray]:
    """torch.optim.SGD, line by line of its documentation (dampening 0)."""
    buffer, out = None, []
    for gradient, rate in zip(gradients, rates, strict=True):
        g = gradient + weight_decay * weights
        if momentum:
            buffer = g.copy() if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        weights = weights - rate * g
        out.append(weights)
    return out


def settings(**changes: Any) -> Any:
    optim = default().optim
    optim.update(changes)
    return optim


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_the_trajectory_is_pytorchs(momentum: float, nesterov: bool, weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=6), list(rng.normal(size=(7, 6)))
    optim = settings(
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        schedule="step",
        step_epochs=2,
        step_factor=0.1,
        learning_rate=0.5,
    )
    schedule = make_schedule(optim, epochs=4, steps_per_epoch=2)
    rates = [0.5] * 4 + [0.05] * 3
    expected = pytorch_sgd(start, gradients, rates, momentum, nesterov, weight_decay)
    optimizer = make_optimizer(optim, schedule)
    params = {"kernel": np.float32(start)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for gradient, weights in zip(gradients, expected, strict=True):
        updates, state = update({"kernel": np.float32(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        chex.assert_trees_all_close(params["kernel"], np.float32(weights), atol=1e-6)


def test_the_mask_leaves_batch_norms_and_biases_alone() -> None:
    params = {
        "level1": {"A": 1.0, "B": 1.0, "step": {"bn_r": {"scale": 1.0, "bias": 1.0}}},
        "head": {"kernel": 1.0, "bias": 1.0},
    }
    params = jax.tree.map(np.float32, params)
    assert decay_mask(params) == {
        "level1": {"A": True, "B": True, "step": {"bn_r": {"scale": False, "bias": False}}},
        "head": {"kernel": True, "bias": False},
    }
    zero = jax.tree.map(np.zeros_like, params)
    for mask, decayed in (("kernels", 3), ("all", 6)):
        optimizer = make_optimizer(
            settings(decay_mask=mask, weight_decay=0.5), optax.constant_schedule(1.0)
        )
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        assert sum(float(u) == -0.5 for u in jax.tree.leaves(updates)) == decayed


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (1, 1, 5, 20), (2, 3, 3, 4, 6)])
def test_muons_step_is_orthogonal_and_along_the_momentum(shape: tuple[int, ...]) -> None:
    momentum = np.random.default_rng(0).normal(size=shape)
    rows, columns = shape[-4] * shape[-3] * shape[-2], shape[-1]
    steps = np.asarray(orthogonal(momentum)).reshape(-1, rows, columns)
    for m, step in zip(momentum.reshape(-1, rows, columns), steps, strict=True):
        U, _, Vt = np.linalg.svd(m, full_matrices=False)
        turned = U.T @ step @ Vt.T
        values = np.diag(turned)
        np.testing.assert_allclose(turned, np.diag(values), atol=1e-5)
        assert 0.6 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_for_hidden_kernels_alone(nesterov: bool) -> None:
    rng = np.random.default_rng(1)
    shapes = {"stem": (3, 3, 2, 4), "level1": (3, 3, 4, 4), "head": (4, 3), "bias": (3,)}
    params = {k: {"kernel": np.float32(rng.normal(size=v))} for k, v in shapes.items()}
    gradients = [
        {k: {"kernel": np.float32(rng.normal(size=v))} for k, v in shapes.items()} for _ in range(3)
    ]

    def last_step(**changes: Any) -> tuple[Any, Any]:
        options = settings(momentum=0.5, nesterov=nesterov, weight_decay=0.1, **changes)
        optimizer = make_optimizer(options, optax.constant_schedule(0.2))
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
        return updates, state

    (sgd, of_sgd), (muon, of_muon) = last_step(), last_step(muon=0.3, muon_momentum=0.4)
    chex.assert_trees_all_equal_structs(of_sgd, of_muon)
    kernel, g = params["level1"]["kernel"], [g["level1"]["kernel"] for g in gradients]
    momentum = 0.16 * g[0] + 0.4 * g[1] + g[2]
    direction = g[2] + 0.4 * momentum if nesterov else momentum
    expected = -0.2 * (0.3 * orthogonal(direction) + 0.1 * kernel)
    chex.assert_trees_all_close(muon.pop("level1")["kernel"], expected, atol=1e-5)
    sgd.pop("level1")
    chex.assert_trees_all_equal(sgd, muon)


def rates(epochs: int, steps_per_epoch: int, **changes: Any) -> np.ndarray:
    schedule = make_schedule(settings(**changes), epochs, steps_per_epoch)
    return np.array([schedule(step) for step in range(epochs * steps_per_epoch)])


def test_the_papers_schedule_divides_by_10_every_30_epochs() -> None:
    values = rates(150, 4)
    expected = np.repeat(0.1 * 10.0 ** -np.arange(5), 30 * 4)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_step_is_the_published_scripts_rule_for_either_first_epoch(first: int, every: int) -> None:
    """The rate of an epoch is rate * factor ** (number of the epoch // step_epochs)."""
    values = rates(6, 4, step_epochs=every, first_epoch=first, step_factor=0.5, learning_rate=1.0)
    numbers = np.arange(6) + first
    np.testing.assert_allclose(values, np.repeat(0.5 ** (numbers // every), 4), rtol=1e-6)


def test_step_drops_count_from_the_start_also_with_warm_up() -> None:
    values = rates(6, 10, step_epochs=2, warmup_epochs=3.0, learning_rate=1.0)
    np.testing.assert_allclose(values[:30], np.arange(30) / 30, atol=1e-6)
    np.testing.assert_allclose(values[30:40], 0.1, rtol=1e-5)  # epoch 3 is after the first drop
    np.testing.assert_allclose(values[40:], 0.01, rtol=1e-5)


def test_cosine_falls_from_the_peak_to_zero_after_warm_up() -> None:
    values = rates(10, 10, schedule="cosine", warmup_epochs=2.0, learning_rate=1.0)
    np.testing.assert_allclose(values[:20], np.arange(20) / 20, atol=1e-6)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(80) / 80))
    np.testing.assert_allclose(values[20:], expected, atol=1e-6)


def test_linear_falls_from_the_peak_to_zero_after_warm_up() -> None:
    values = rates(10, 10, schedule="linear", warmup_epochs=2.0, learning_rate=1.0)
    np.testing.assert_allclose(values[:20], np.arange(20) / 20, atol=1e-6)
    np.testing.assert_allclose(values[20:], 1 - np.arange(80) / 80, atol=1e-6)


def test_constant_is_constant_after_warm_up() -> None:
    values = rates(3, 4, schedule="constant", warmup_epochs=0.5)
    np.testing.assert_allclose(values, [0, 0.05] + [0.1] * 10, atol=1e-6)
