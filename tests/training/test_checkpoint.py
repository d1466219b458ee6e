"""What is saved comes back exactly; the newest and the best are kept."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from mgnet_jax.models import create
from mgnet_jax.training import sharding
from mgnet_jax.training.checkpoint import CheckpointError, Checkpoints
from mgnet_jax.training.manifest import Manifest
from mgnet_jax.training.state import TrainState, create_state

MESH = sharding.make_mesh()
COPIES = sharding.replicated(MESH)


def make_state(rng: jax.Array, ema: bool = True) -> TrainState:
    return create_state(create("MgNet[1]-[2]-B^l", 2), optax.sgd(0.1, 0.9), rng, (4, 4, 1), ema)


@pytest.fixture(scope="module")
def state() -> TrainState:
    made = jax.jit(make_state, out_shardings=COPIES)(jax.random.key(0))
    return jax.tree.map(lambda x: x + jnp.ones_like(x), made)


def numbered(state: TrainState, step: int) -> TrainState:
    return state.replace(step=jax.device_put(jnp.int32(step), COPIES))


def steps_on_disk(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


RUN = {"id": "this", "config": {}, "data": {}}


def save(checkpoints: Checkpoints, state: TrainState, score: float | None = None) -> None:
    checkpoints.save(state, Manifest(int(state.step), RUN, {}, score))


def test_a_state_comes_back_exactly_and_where_it_was(state: TrainState, tmp_path: Path) -> None:
    for ema in (True, False):
        original = state if ema else state.replace(ema=None)
        with Checkpoints(tmp_path / str(ema), 2) as checkpoints:
            save(checkpoints, numbered(original, 3))
        shapes = jax.eval_shape(lambda key, ema=ema: make_state(key, ema), jax.random.key(0))
        with Checkpoints(tmp_path / str(ema), 2) as checkpoints:
            like = sharding.abstract_state(shapes, MESH, "replicated")
            restored = checkpoints.restore(checkpoints.find(), like)
        chex.assert_trees_all_equal(restored, numbered(original, 3))
        assert all(x.sharding == COPIES for x in jax.tree.leaves(restored))


def test_the_newest_and_the_best_are_kept(state: TrainState, tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 0.9, 3: None, 4: 0.9, 5: 0.2, 6: None, 7: 0.3}
    with Checkpoints(tmp_path, 2) as checkpoints:
        for step, score in scores.items():
            save(checkpoints, numbered(state, step), score)
    assert steps_on_disk(tmp_path) == [4, 6, 7]
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert checkpoints.find("last").step == 7
        assert checkpoints.find("best").step == 4  # of equal ones the later
        assert checkpoints.find("6").step == 6
        for which in ("5", "first", "-1"):
            with pytest.raises(CheckpointError, match=f"no checkpoint '{which}'.*4, 6"):
                checkpoints.find(which)


def test_there_is_no_best_before_anything_is_scored(state: TrainState, tmp_path: Path) -> None:
    with Checkpoints(tmp_path, 1) as checkpoints:
        assert checkpoints.newest() is None
        for which in ("best", "last"):
            with pytest.raises(CheckpointError, match="no whole checkpoint yet"):
                checkpoints.find(which)
        save(checkpoints, numbered(state, 1))
        with pytest.raises(CheckpointError, match="there are 'last', 1"):
            checkpoints.find("best")


@pytest.mark.parametrize("background", ["on", "off"])
def test_saving_does_not_hold_on_to_donated_buffers(
    background: str, state: TrainState, tmp_path: Path
) -> None:
    """The next step overwrites the state's memory: the file must not change with it."""
    add: Any = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    copy = jax.tree.map(jnp.copy, numbered(state, 1))
    with Checkpoints(tmp_path, 1, background) as checkpoints:
        save(checkpoints, copy)
        for _ in range(3):
            copy = add(copy)
        checkpoints.wait()
        like = sharding.abstract_state(copy, MESH, "replicated")
        restored = checkpoints.restore(checkpoints.find(), like)
    chex.assert_trees_all_equal(restored, numbered(state, 1))


def test_a_score_that_comes_later_leaves_the_arrays_alone(
    state: TrainState, tmp_path: Path
) -> None:
    with Checkpoints(tmp_path, 1) as checkpoints:
        save(checkpoints, numbered(state, 1))
        files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.parent.name != "1"}
        save(checkpoints, numbered(state, 1), 0.5)
        assert checkpoints.find("best").score == 0.5
    assert files.keys() <= {*tmp_path.rglob("*")}
    assert all(p.stat().st_mtime_ns == t for p, t in files.items() if p.is_file())


def test_a_checkpoint_of_any_mesh_restores_on_any_other(tmp_path: Path) -> None:
    """Of a state copied or in parts, on one device or two."""

    def make(rng: jax.Array) -> TrainState:
        model = create("MgNet[1]-[48]-B^l", 2)
        return create_state(model, optax.sgd(0.1, 0.9), rng, (4, 4, 1), True)

    key = jax.random.key(0)
    shapes = jax.eval_shape(make, key)
    places = [
        sharding.abstract_state(shapes, sharding.make_mesh(jax.devices()[:n]), how)
        for n in (1, 2)
        for how in ("replicated", "sharded")
    ]
    made = jax.jit(make)(key)
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(places[-1]))
    for i, before in enumerate(places):
        state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), made, before)
        with Checkpoints(tmp_path / str(i), 2) as checkpoints:
            save(checkpoints, state)
            for after in places:
                restored = checkpoints.restore(checkpoints.find(), after)
                chex.assert_trees_all_equal(restored, made)
                assert all(
                    x.sharding == like.sharding
                    for x, like in zip(*map(jax.tree.leaves, (restored, after)), strict=True)
                )
