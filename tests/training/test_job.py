"""What a configuration asks for is what is made: the images of each call, and where calls end."""

from typing import Any

import chex
import numpy as np
import pytest

from mgnet_jax.config import ConfigError, default, validate
from mgnet_jax.data import sets, sources
from mgnet_jax.data.order import Batches
from mgnet_jax.training.agreement import Agreement
from mgnet_jax.training.job import Job


def make_job(**changes: Any) -> Job:
    config = default()
    config.update_from_flattened_dict(
        {"model.spec": "MgNet[1]-[2]-B^l", "train.batch_size": 100, "train.epochs": 3, **changes}
    )
    validate(config, 2)
    return Job(config, sets.load(config.data))


def test_each_call_trains_on_the_images_of_its_steps() -> None:
    job, calls = make_job(**{"seed": 5, "train.accumulate": 2, "log.every_steps": 6}), []

    def chunk(*arguments: Any) -> Any:
        calls.append(arguments)
        return "the new state", "its metrics"

    job.__dict__["train_chunks"] = {100: chunk}
    assert job.train_steps("the state", "so far", 13, 17) == ("the new state", "its metrics")
    ((state, metrics, (images, labels, indices), count, _),) = calls
    assert (state, metrics, count) == ("the state", "so far", 4)
    assert indices.shape == (job.train_feed.most_steps, 2, 50)
    np.testing.assert_array_equal(indices[:4], Batches(1437, 100, 2, seed=5).indices(13, 4))
    digits = sources.load("digits").train
    np.testing.assert_array_equal(images, digits.images)
    np.testing.assert_array_equal(labels, digits.labels)


def test_a_smaller_batch_is_a_call_of_its_own() -> None:
    job = make_job(
        **{"data.validation": 37, "train.batch_size": 300, "log.every_steps": 3}
        | {"data.last_batch": "use", "train.accumulate": 2}
    )
    assert job.batches.sizes == [300] * 4 + [200]
    assert (job.steps_per_epoch, job.total_steps) == (5, 15)
    calls: list[Any] = []

    def chunk(state: int, metrics: int, arrays: Any, count: int, key: Any) -> Any:
        indices = np.asarray(arrays[2])
        calls.append(indices[:count].reshape(count, -1))
        assert indices.shape[:2] == (job.train_feed.most_steps, 2)
        return state + count, metrics + count

    job.__dict__["train_chunks"] = {300: chunk, 200: chunk}
    ends, state = [0], 0
    while ends[-1] < job.total_steps:
        ends.append(job.next_stop(ends[-1], 100))
        state, metrics = job.train_steps(state, 7, ends[-2], ends[-1])
        assert (state, metrics) == (ends[-1], 7 + ends[-1] - ends[-2])
    assert ends == [0, 3, 5, 6, 9, 10, 12, 15]
    shapes = [call.shape for call in calls]
    epochs = [(3, 300), (1, 300), (1, 200)], [(1, 300), (3, 300), (1, 200)]
    assert shapes == [*epochs[0], *epochs[1], (2, 300), (2, 300), (1, 200)]
    for epoch in np.split(np.concatenate([call.ravel() for call in calls]), 3):
        assert sorted(epoch) == list(range(1400))
    # from a checkpoint before the smaller batch, it alone
    job.train_steps(0, 0, 14, 15)
    np.testing.assert_array_equal(calls[-1], calls[-2])


def test_a_smaller_batch_is_trained_on_and_calls_of_any_length_are_the_same() -> None:
    """Two compiled calls, and metrics of all images; without it the epoch is as it always was."""
    jobs = {
        last: make_job(
            **{
                "data.last_batch": last,
                "data.validation": 37,
                "train.batch_size": 256,
                "log.every_steps": 9,
            }
        )
        for last in ("drop", "use")
    }
    ends, sums = {}, {}
    for last, job in jobs.items():
        end = job.next_stop(0, 100)
        state, metrics = job.train_steps(job.initial_state(), job.no_metrics(), 0, end)
        ends[last], sums[last] = state, metrics
        assert int(state.step) == end == job.steps_per_epoch == {"drop": 5, "use": 6}[last]
        assert int(metrics.count) == {"drop": 1280, "use": 1400}[last]
        assert set(job.train_chunks) == {"drop": {256}, "use": {256, 120}}[last]
    job = jobs["use"]
    state, metrics = job.initial_state(), job.no_metrics()
    for begin, end in ((0, 1), (1, 4), (4, 5)):
        state, metrics = job.train_steps(state, metrics, begin, end)
    chex.assert_trees_all_equal((state.params, metrics), (ends["drop"].params, sums["drop"]))
    after, metrics = job.train_steps(state, job.no_metrics(metrics.kept()), 5, 6)
    chex.assert_trees_all_equal((after, metrics), (ends["use"], sums["use"]))


def test_the_scale_is_the_sets_own_or_the_configurations() -> None:
    """Of the same images, what is trained on and what is scored depends on it."""

    def scored(**changes: Any) -> float:
        job = make_job(**changes)
        return job.score(job.initial_state())["test_loss"]

    def trained(**changes: Any) -> float:
        job = make_job(**changes)
        return job.train_steps(job.initial_state(), job.no_metrics(), 0, 1)[1].summary()["loss"]

    own, info = scored(), sources.SETS["digits"].info
    assert scored(**{"data.mean": info.mean, "data.std": info.std}) == own
    assert scored(**{"data.mean": (0.9,)}) != own
    assert scored(**{"data.std": (1,)}) != own
    assert trained(**{"data.mean": (0.9,)}) != trained()
    # where no batch norm after the stem takes it out again
    plain = {"model.spec": "pre-act ResNet[1]-[8]-A^l-B^l"}
    assert trained(**plain, **{"data.std": (1,)}) != trained(**plain)


def test_calls_end_at_records_epochs_and_checkpoints_and_are_no_longer_than_asked() -> None:
    def stops(most: int = 100, **changes: Any) -> tuple[list[int], list[int]]:
        job, ends = make_job(**changes), [0]
        while ends[-1] < job.total_steps:
            ends.append(job.next_stop(ends[-1], most))
        return ends, [end for end in ends[1:] if job.ends_record(end)]

    ends, recorded = stops(**{"log.every_steps": 5})
    assert ends == [0, 5, 10, 14, 15, 20, 25, 28, 30, 35, 40, 42]
    assert recorded == ends[1:]
    assert stops(**{"log.every_steps": 10**9}) == ([0, 14, 28, 42], [14, 28, 42])
    ends, recorded = stops(**{"log.every_steps": 50, "checkpoint.every_steps": 9})
    assert ends == [0, 9, 14, 18, 27, 28, 36, 42]
    assert recorded == [14, 28, 42]
    assert stops(4, **{"log.every_steps": 10})[0][:6] == [0, 4, 8, 10, 14, 18]


def test_held_out_images_are_not_trained_on() -> None:
    job = make_job(**{"data.validation": 237})
    assert job.train_size == 1200
    assert job.steps_per_epoch == 12
    trained, held = (
        {image.tobytes() for image in np.asarray(part.whole[0])}
        for part in (job.train_feed, job.scored_feeds["validation"])
    )
    assert len(held) == 237
    assert not trained & held
    assert set(job.scored_feeds) == {"test", "validation"}
    assert job.scored_feeds["test"].size == len(job.scored_feeds["test"].whole[1]) == 360


def test_a_set_with_fewer_images_than_a_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published files may be cut: the sizes that validate knows are the full ones."""
    full = sources.load("digits")
    few = sources.ImageSet(full.train.images[:50], full.train.labels[:50])
    small = sources.DataSet(full.info, few, full.test, full.class_names)
    monkeypatch.setattr(sources, "load", lambda *_, **__: small)
    with pytest.raises(ConfigError, match=r"config.train.batch_size=100 is more than the 50"):
        make_job()
    use = {"train.batch_size": 20, "data.last_batch": "use", "data.validation": 11}
    assert make_job(**use).batches.sizes == [20, 19]


def test_a_signal_between_calls_ends_scoring_without_a_score() -> None:
    job = make_job(**{"eval.batch_size": 100})
    state, asked = job.initial_state(), []
    stopped = Agreement(job.mesh, lambda: int(bool(asked.append(1) or len(asked) > 2)))
    assert job.score(state, stopped) is None
    assert len(asked) == 3
    assert set(job.score(state)) == {"test_loss", "test_accuracy"}


def test_learning_rates_are_the_schedules() -> None:
    job = make_job(**{"optim.step_epochs": 1, "optim.learning_rate": 0.5})
    found = [job.learning_rate(step) for step in range(42)]
    np.testing.assert_allclose(found, np.repeat([0.5, 0.05, 0.005], 14), rtol=1e-5)
