"""Steps that are not finite are left out, or the run goes back, as it was told; never saved."""

import json
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import SMALL, command, killed_after, newest_state, records

from mgnet_jax.config import CHANGEABLE, default, flatten
from mgnet_jax.config.table import KEYS
from mgnet_jax.data import sets
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.training import steps
from mgnet_jax.training.checkpoint import Checkpoints
from mgnet_jax.training.job import Job
from mgnet_jax.training.state import arrays_of

EVERY = (*SMALL, "--config.checkpoint.every_steps=10", "--config.log.every_steps=5")


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in 25 has images that are not finite, chosen by its random key."""
    augmented, normalise = Augmentation.of_pixels, steps.normalise

    def blacken(self: Augmentation, images: jax.Array, key: jax.Array, epoch: Any) -> jax.Array:
        bad = jax.random.uniform(jax.random.fold_in(key, 9)) < 0.04
        return jnp.where(bad, jnp.uint8(0), augmented(self, images, key, epoch))

    def spoil(images: jax.Array, *scale: Any) -> jax.Array:
        return jnp.where(jnp.max(images) == 0, jnp.nan, normalise(images, *scale))

    monkeypatch.setattr(Augmentation, "of_pixels", blacken)
    monkeypatch.setattr(steps, "normalise", spoil)


def job(**changes: Any) -> Job:
    config = default()
    config.update_from_flattened_dict(
        {"model.spec": "MgNet[1]-[8]-B^l", "train.epochs": 4, "optim.warmup_epochs": 0.5}
        | {name.replace("__", "."): value for name, value in changes.items()}
    )
    return Job(config, sets.load(config.data))


def test_a_step_that_is_not_finite_leaves_the_state_but_for_what_counts(poison: None) -> None:
    run = job(train__on_nonfinite="skip", train__ema_decay=0.9, optim__momentum=0.9)
    state, skipped = run.initial_state(), 0
    for step in range(20):
        before = jax.tree.map(np.asarray, state)
        state, metrics = run.train_steps(state, run.no_metrics(), step, step + 1)
        values = metrics.summary()
        after = jax.tree.map(np.asarray, state)
        assert steps.all_finite(after)
        assert int(after.step) == step + 1
        assert {int(x) for x in jax.tree.leaves(after.opt_state) if x.dtype == "int32"} == {
            step + 1
        }
        same = [
            (a == b).all()
            for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)
            if a.dtype == np.float32 and a.any()
        ]
        if values["skipped"]:
            skipped += 1
            assert all(same) and int(metrics.count) == 0 and np.isnan(values["loss"])
        else:
            assert not all(same) and int(after.skipped) == 0
    assert 0 < skipped < 20


def test_skipping_changes_nothing_where_all_is_finite() -> None:
    results = []
    for how in ("stop", "skip"):
        run = job(train__on_nonfinite=how, log__measures="grad_norm")
        state, metrics = run.train_steps(run.initial_state(), run.no_metrics(), 0, 8)
        assert run.columns == (["skipped"] if how == "skip" else []) + ["grad_norm"]
        results.append((state.params, state.batch_stats, metrics.summary()))
    assert results[1][2].pop("skipped") == 0
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_a_run_skips_and_says_so_in_its_records(poison: None, tmp_path: Path) -> None:
    assert command(tmp_path, *EVERY, "--config.train.on_nonfinite=skip") == 0
    train = [r for r in records(tmp_path) if r["kind"] == "train"]
    assert 0 < sum(r["skipped"] for r in train) < 10
    assert all(np.isfinite(r["grad_norm"]) for r in train)


def test_too_many_in_a_row_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normalise = steps.normalise
    monkeypatch.setattr(steps, "normalise", lambda *a: normalise(*a) * jnp.nan)
    flags = ("--config.train.on_nonfinite=skip", "--config.train.most_skipped=7")
    assert command(tmp_path, *SMALL, *flags) == 1
    assert "7 steps in a row (config.train.most_skipped) were not finite" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_back_and_a_killed_one_ends_alike(
    poison: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    flags = (*EVERY, "--config.train.on_nonfinite=rollback", "--config.train.most_rollbacks=20")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(whole, *flags) == 0
    assert ": back to step " in (out := capsys.readouterr().out)
    assert steps.all_finite(newest_state(whole))
    assert [r["step"] for r in records(whole) if r["kind"] == "train"] == [
        *range(5, 21, 5),
        22,
        *range(25, 44, 5),
        44,
    ]
    for stop in (20, 40):
        killed_after(killed, stop, *flags)
    assert command(killed, *flags) == 0
    assert records(killed) == records(whole)
    chex.assert_trees_all_equal(newest_state(killed), newest_state(whole))
    assert out.count("back to step") >= 1
    with Checkpoints(whole) as checkpoints:
        assert checkpoints.find().run["rollbacks"] == out.count("back to step")


def test_going_back_too_often_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normalise = steps.normalise
    monkeypatch.setattr(steps, "normalise", lambda *a: normalise(*a) * jnp.nan)
    assert command(tmp_path, *SMALL, "--config.train.on_nonfinite=rollback") == 1
    captured = capsys.readouterr()
    assert captured.out.count("back to step 0") == 3
    assert "It went back 3 times" in captured.err


@pytest.mark.slow
def test_a_run_goes_on_with_another_rate_if_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    flags = (*EVERY, "--config.optim.schedule=constant")
    killed_after(workdir, 10, *flags)
    rate = "--config.optim.learning_rate=0.01"
    assert command(workdir, *flags, rate) == 2
    assert "or --resume_with to train on with the new ones" in capsys.readouterr().err
    assert command(workdir, *flags, rate, "--config.seed=3", "--resume_with") == 2
    assert command(workdir, *flags, rate, "--resume_with") == 0
    assert "config.optim.learning_rate was 0.1 and is now 0.01" in capsys.readouterr().out
    train = [r for r in records(workdir) if r["kind"] == "train"]
    assert train[-1]["learning_rate"] == pytest.approx(0.01)
    assert train[1]["learning_rate"] > 0.05
    (change,) = json.loads((workdir / "run.json").read_text())["changes"]
    assert change == {
        "step": 10,
        "changes": ["config.optim.learning_rate was 0.1 and is now 0.01"],
    }
    assert command(workdir, *flags, rate) == 0  # the run's own now
    assert command(workdir, "--mode=verify") == 0
    files = {path: path.read_bytes() for path in workdir.iterdir() if path.is_file()}
    capsys.readouterr()
    assert command(workdir, *flags, "--config.optim.learning_rate=0.02", "--resume_with") == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert files == {path: path.read_bytes() for path in workdir.iterdir() if path.is_file()}


def test_the_state_is_the_same_tree_whatever_a_run_may_go_on_with() -> None:
    """Each key that --resume_with takes, between its default and another value."""
    values = {
        "optim.clip_norm": 1.0,
        "optim.decay_mask": "kernels",
        "optim.learning_rate": 0.01,
        "optim.momentum": 0.0,
        "optim.muon": 0.1,
        "optim.muon_momentum": 0.9,
        "optim.nesterov": True,
        "optim.schedule": "cosine",
        "optim.first_epoch": 1,
        "optim.step_epochs": 1,
        "optim.step_factor": 0.5,
        "optim.warmup_epochs": 1.0,
        "optim.weight_decay": 0.0,
        "train.label_smoothing": 0.1,
        "train.most_rollbacks": 1,
        "train.most_skipped": 3,
        "train.on_nonfinite": "skip",
    }
    assert sorted(values) == sorted(name for name in KEYS if name.startswith(CHANGEABLE))
    first = job().state_shapes
    for name, value in values.items():
        assert value != flatten(job().config)[name]
        other = job(**{name.replace(".", "__"): value}).state_shapes
        assert jax.tree.structure(other) == jax.tree.structure(first), name
        assert arrays_of(other) == arrays_of(first), name


def test_a_run_that_diverged_goes_on_as_it_is_advised_to(tmp_path: Path) -> None:
    killed_after(tmp_path, 10, *EVERY)
    changes = ("train.on_nonfinite=skip", "optim.clip_norm=1", "optim.decay_mask=kernels")
    flags = (f"--config.{change}" for change in changes)
    assert command(tmp_path, *EVERY, *flags, "--resume_with") == 0
    assert command(tmp_path, "--mode=verify") == 0
    (change,) = json.loads((tmp_path / "run.json").read_text())["changes"]
    assert change["step"] == 10 and len(change["changes"]) == 3


def test_gradients_are_clipped() -> None:
    run = job(optim__clip_norm=1e-3, optim__weight_decay=0.0, optim__momentum=0.0)
    before = run.initial_state()
    first = jax.tree.map(np.asarray, before.params)
    state, _ = run.train_steps(before, run.no_metrics(), 0, 2)
    moved = jax.tree.map(lambda a, b: np.asarray(a) - b, state.params, first)
    norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(moved)))
    rate = run.learning_rate(0) + run.learning_rate(1)
    assert 0 < norm <= 1.001e-3 * rate


def test_a_decay_that_eats_the_weights_is_named(tmp_path: Path, capsys: Any) -> None:
    assert command(tmp_path, *SMALL, "--config.optim.weight_decay=1e20") == 1
    assert "Lower config.optim.weight_decay=1e+20" in capsys.readouterr().err
