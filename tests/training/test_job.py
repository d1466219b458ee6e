"""What a configuration asks for is what is made: the images of each call, and where calls end."""

from typing import Any

import numpy as np
import pytest

from mgnet_jax.config import ConfigError, default, validate
from mgnet_jax.data import sources
from mgnet_jax.data.pipeline import batch_indices
from mgnet_jax.training.job import Job


def make_job(**changes: Any) -> Job:
    config = default()
    config.update_from_flattened_dict(
        {"model.spec": "MgNet[1]-[2]-B^l", "train.batch_size": 100, "train.epochs": 3, **changes}
    )
    validate(config, 2)
    return Job(config)


def test_each_call_trains_on_the_images_of_its_steps() -> None:
    job, calls = make_job(**{"seed": 5, "train.accumulate": 2, "log.every_steps": 6}), []
    job.__dict__["train_chunk"] = lambda *arguments: calls.append(arguments)
    job.train_steps("the state", 13, 17)
    ((state, images, labels, indices, count, _),) = calls
    assert (state, count) == ("the state", 4)
    assert indices.shape == (6, 2, 50)
    np.testing.assert_array_equal(
        np.reshape(indices[:4], (4, 100)), batch_indices(1437, 100, seed=5, start=13, count=4)
    )
    digits = sources.load("digits").train
    np.testing.assert_array_equal(images, digits.images)
    np.testing.assert_array_equal(labels, digits.labels)


def test_calls_end_at_records_epochs_and_checkpoints() -> None:
    def stops(**changes: Any) -> list[int]:
        job, ends = make_job(**changes), [0]
        while ends[-1] < job.total_steps:
            ends.append(job.next_stop(ends[-1]))
        return ends

    assert stops(**{"log.every_steps": 5}) == [0, 5, 10, 14, 15, 20, 25, 28, 30, 35, 40, 42]
    assert stops(**{"log.every_steps": 10**9}) == [0, 14, 28, 42]
    every = stops(**{"log.every_steps": 50, "checkpoint.every_steps": 9})
    assert every == [0, 9, 14, 18, 27, 28, 36, 42]


def test_held_out_images_are_not_trained_on() -> None:
    job = make_job(**{"data.validation": 237})
    assert job.train_size == 1200
    assert job.steps_per_epoch == 12
    trained, held = (
        {image.tobytes() for image in np.asarray(part[0])}
        for part in (job.train_set, job.scored_sets["validation"])
    )
    assert len(held) == 237
    assert not trained & held
    assert set(job.scored_sets) == {"test", "validation"}
    assert len(job.scored_sets["test"][1]) == 360


def test_a_set_with_fewer_images_than_a_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published files may be cut: the sizes that validate knows are the full ones."""
    full = sources.load("digits")
    few = sources.ImageSet(full.train.images[:50], full.train.labels[:50])
    small = sources.DataSet(full.info, few, full.test, full.class_names)
    monkeypatch.setattr(sources, "load", lambda *_: small)
    with pytest.raises(ConfigError, match=r"config.train.batch_size=100 is more than the 50"):
        make_job()


def test_learning_rates_are_the_schedules() -> None:
    job = make_job(**{"optim.step_epochs": 1, "optim.learning_rate": 0.5})
    np.testing.assert_allclose(job.learning_rates, np.repeat([0.5, 0.05, 0.005], 14), rtol=1e-5)
