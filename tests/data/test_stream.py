"""What a stream of photographs holds does not depend on who reads it, or from where on."""

import gc
from multiprocessing.synchronize import SemLock
from typing import Any

import numpy as np
import pytest
from photos import Shades

from mgnet_jax.data import stream
from mgnet_jax.data.cut import Cut
from mgnet_jax.data.info import DataError
from mgnet_jax.data.order import Batches
from mgnet_jax.data.photographs.workers import WorkerError
from mgnet_jax.data.stream import Reading, scoring_stream, training_stream

CUT = Cut((4, 3, 1), 0.2, 5, "pillow")
Batch = tuple[np.ndarray, np.ndarray]


def take(
    batches: Batches, count: int, start: int = 0, shades: Any = None, **reading: int
) -> list[Batch]:
    photographs = shades or Shades(batches.size)
    one = training_stream(photographs, batches, CUT, Reading(**reading), start, lambda b: b)
    try:
        return [next(one) for _ in range(count)]
    finally:
        one.close()


def same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x[0], y[0])
        np.testing.assert_array_equal(x[1], y[1])


def joined(parts: list[list[Batch]], axis: int) -> list[Batch]:
    """The batches of which each process has its rows."""
    steps = zip(*parts, strict=True)
    return [tuple(np.concatenate(a, axis) for a in zip(*s, strict=True)) for s in steps]  # type: ignore[misc]


@pytest.mark.parametrize("last_batch", ["drop", "use"])
def test_epochs_are_permutations_whoever_reads_them(last_batch: str) -> None:
    batches = Batches(44, 8, parts=2, last_batch=last_batch, seed=3)
    steps = {"drop": 5, "use": 6}[last_batch]
    whole = take(batches, 2 * steps, threads=1)
    assert [label.shape for _, label in whole[:steps]] == [(2, size // 2) for size in batches.sizes]
    epochs = [
        np.concatenate([label.ravel() for _, label in whole[begin : begin + steps]])
        for begin in (0, steps)
    ]
    for labels in epochs:
        assert len(set(labels)) == len(labels) == sum(batches.sizes)
    assert (epochs[0] != epochs[1]).any()
    for images, labels in whole:
        assert images.shape == (*labels.shape, 4, 3, 1) and images.dtype == np.uint8
        means = images.mean((2, 3, 4))
        np.testing.assert_allclose(means, labels, atol=2)  # the image is that of its label
    same(take(batches, 2 * steps, threads=3), whole)
    same(take(batches, 2 * steps - 4, start=4), whole[4:])
    parts = [take(batches, 2 * steps, places=(p,), shares=2, threads=1) for p in range(2)]
    same(joined(parts, axis=1), whole)


def test_worker_processes_read_the_same() -> None:
    batches = Batches(44, 8, parts=2, last_batch="use", seed=3)
    same(take(batches, 9, start=2, workers=2), take(batches, 9, start=2))


def test_a_part_of_many_rows_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(44, 24, parts=2, seed=1)
    whole = take(batches, 4)
    monkeypatch.setattr(stream, "BLOCK", 4)
    same(take(batches, 4), whole)
    assert stream._blocks([12]) == 3 and stream._blocks([12, 6]) == 3
    assert stream._blocks([13]) == 13 and stream._blocks([4]) == 1


def test_seeds_have_orders_and_crops_of_their_own() -> None:
    first, second, shifted = (
        np.concatenate([label.ravel() for _, label in take(Batches(44, 44, seed=seed), 1, start)])
        for seed, start in ((0, 0), (1, 0), (0, 1))
    )
    assert (first != second).any() and (second != shifted).any()


class Ramps(Shades):
    """Photographs with a gradient, on which a crop shows where it is from."""

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        import io

        from PIL import Image

        ramp = np.linspace(0, 255, 40 * 40).reshape(40, 40).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(ramp).save(file, "JPEG")
        return file.getvalue(), index


def test_crops_are_drawn_anew_for_every_image_and_epoch() -> None:
    crops = [image for step in take(Batches(6, 6), 3, shades=Ramps(6)) for image in step[0][0]]
    assert len({crop.tobytes() for crop in crops}) == 18
    whole = Cut((4, 3, 1), 1.0, 5, "pillow")
    one = training_stream(Ramps(6), Batches(6, 6), whole, Reading(), 0, lambda b: b)
    images = next(one)[0][0]
    one.close()
    assert len({image.tobytes() for image in images}) == 1  # an area of 1 is the central crop


@pytest.mark.parametrize("processes", [1, 3])
def test_scoring_reads_every_photograph_once_in_order(processes: int) -> None:
    parts = [
        list(scoring_stream(Shades(20), 12, CUT, Reading(0, 1, 2, (p,), processes), lambda b: b))
        for p in range(processes)
    ]
    assert {len(part) for part in parts} == {2}
    labels = np.concatenate([label.ravel() for _, label in joined(parts, axis=1)])
    assert labels.tolist() == [*range(20), *[-1] * 4]
    for images, wanted in joined(parts, axis=1):
        np.testing.assert_allclose(images.mean((2, 3, 4)), np.maximum(wanted, 0), atol=2)


class Cut7(Shades):
    """Number 7 has a header and nothing more."""

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        jpeg, label = super().__getitem__(index)
        return jpeg[:-40] if index == 7 else jpeg, label


@pytest.mark.parametrize("scoring", [True, False])
def test_a_photograph_that_cannot_be_decoded_is_named_too(scoring: bool) -> None:
    one = (
        scoring_stream(Cut7(10), 5, CUT, Reading(), lambda b: b)
        if scoring
        else training_stream(Cut7(10), Batches(10, 5), CUT, Reading(), 0, lambda b: b)
    )
    with pytest.raises(DataError, match=r"^shade 7: a JPEG that .*mend or remove it"):
        for _ in range(3):
            next(one)
    one.close()


def test_a_worker_that_is_killed_is_an_error_for_people() -> None:
    import multiprocessing

    one = training_stream(Shades(44), Batches(44, 8), CUT, Reading(1), 0, lambda b: b)
    next(one)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(WorkerError, match=r"was killed.*fewer config.data.workers"):
        for _ in range(100):
            next(one)
    one.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photograph_that_cannot_be_read_is_named(workers: int) -> None:
    with pytest.raises(DataError, match="shade 7 is damaged"):
        take(Batches(10, 5), 3, shades=Shades(10, damaged=7), workers=workers)


def test_what_is_read_ahead_is_bounded_and_said() -> None:
    reading = Reading(workers=0, threads=3, prefetch=2)
    # 6 blocks of 50, and 4 batches of 100: two on the device, one being put there, one being made
    assert reading.most_bytes(Batches(1000, 100), 10) == 10 * (6 * 50 + 4 * 100)
    workers = Reading(workers=2, threads=1)
    assert workers.most_bytes(Batches(100, 8), 1) == (2 * 2 + 2 * 2) * 8 + 4 * 8
    # 130 and 1 have no common blocks but whole ones
    assert reading.most_bytes(Batches(131, 130, 1, "use"), 1) == 6 * 130 + 4 * 130


def test_workers_leave_no_semaphores() -> None:
    """CPython 3.12 loses, with a warning, what is collected while other ones are made."""
    gc.collect()
    before = semaphores()
    gc.disable()
    try:
        take(Batches(10, 5), 3, workers=1)
        assert semaphores() <= before
    finally:
        gc.enable()


def semaphores() -> int:
    return sum(isinstance(each, SemLock) for each in gc.get_objects())
