"""Images held out: how many of each class, which, and that nothing is in both parts."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mgnet_jax.data import splits
from mgnet_jax.data.info import DataError, ImageSet


def labelled(labels: list[int]) -> ImageSet:
    """Images that each show their own number, to be told apart."""
    numbers = np.arange(len(labels), dtype=np.uint32).view(np.uint8)
    return ImageSet(numbers.reshape(-1, 2, 2, 1), np.array(labels, np.int32))


def numbers_of(part: ImageSet) -> np.ndarray:
    return part.images.reshape(-1).view(np.uint32)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_hold_out_divides_every_class_in_proportion(
    labels: list[int], data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(1, len(labels) - 1))
    train = labelled(labels)
    kept, held = splits.split(train, count, seed)
    assert (len(kept), len(held)) == (len(labels) - count, count)
    for part in (kept, held):
        chosen = numbers_of(part)
        assert (np.diff(chosen.astype(int)) > 0).all()
        np.testing.assert_array_equal(part.labels, train.labels[chosen])
    assert sorted([*numbers_of(kept), *numbers_of(held)]) == list(range(len(labels)))
    share = np.bincount(train.labels) * count / len(labels)
    given = np.bincount(held.labels, minlength=len(share))
    assert (np.floor(share) <= given).all()
    assert (given <= np.ceil(share)).all()
    np.testing.assert_array_equal(numbers_of(splits.split(train, count, seed)[1]), numbers_of(held))


def test_hold_out_is_another_choice_for_another_seed() -> None:
    train = labelled(list(range(10)) * 20)
    choices = [tuple(numbers_of(splits.split(train, 50, seed)[1])) for seed in range(60)]
    assert len(set(choices)) == 60
    assert set(np.concatenate(choices)) == set(range(200))  # each image fails with chance 3e-8


def test_hold_out_of_a_few_takes_every_class_in_turn() -> None:
    train = labelled(list(range(10)) * 20)
    few = [splits.split(train, 1, seed)[1].labels[0] for seed in range(200)]
    assert np.bincount(few, minlength=10).min() > 5


def test_nothing_held_out_is_the_images_themselves() -> None:
    train = labelled([0, 1])
    assert splits.split(train, 0, 0) == (train, None)


class Numbers:
    """Photographs that are their own numbers."""

    def __init__(self, labels: list[int] | None, count: int) -> None:
        self.labels, self.count = None if labels is None else np.array(labels), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return str(index).encode(), index % 3

    def name(self, index: int) -> str:
        return f"number {index}"


@pytest.mark.parametrize("known", [True, False])
def test_photographs_are_divided_as_images_are(known: bool) -> None:
    labels = [i % 3 for i in range(30)]
    kept, held = splits.split(Numbers(labels if known else None, 30), 6, seed=1)
    numbers = [[int(part[i][0]) for i in range(len(part))] for part in (kept, held)]
    assert sorted(numbers[0] + numbers[1]) == list(range(30)) and len(held) == 6
    assert [part.name(0) for part in (kept, held)] == [f"number {n[0]}" for n in numbers]
    if known:
        images_held = splits.split(labelled(labels), 6, seed=1)[1]
        assert numbers[1] == list(numbers_of(images_held))
        np.testing.assert_array_equal(held.labels, images_held.labels)
    else:
        assert held.labels is None


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_hold_out_leaves_something_to_train_on(count: int) -> None:
    with pytest.raises(DataError, match=f"hold out {count} of 3 images"):
        splits.split(labelled([0, 1, 2]), count, seed=0)
