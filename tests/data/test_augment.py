"""Crop, flip and normalisation against NumPy; the order of the images."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnet_jax.data.augment import (
    Augmentation,
    mix,
    normalise,
    random_crop,
    random_erasing,
    random_flip,
)
from mgnet_jax.data.order import Batches, epoch_order
from mgnet_jax.data.rand_augment import OPERATIONS, apply, rand_augment

N, PADDING = 300, 2
IMAGES = np.random.default_rng(0).integers(1, 256, (N, 5, 4, 3), np.uint8)


def windows(image: np.ndarray, padding: int) -> dict[bytes, tuple[int, int]]:
    """Every window that a crop may cut out, with its corner."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return {
        padded[i : i + height, j : j + width].tobytes(): (i, j)
        for i in range(2 * padding + 1)
        for j in range(2 * padding + 1)
    }


def test_crops_are_windows_of_the_padded_image_and_all_of_them_come() -> None:
    crops = np.asarray(jax.jit(random_crop, static_argnums=2)(IMAGES, jax.random.key(0), PADDING))
    assert crops.dtype == np.uint8
    places = [windows(i, PADDING)[c.tobytes()] for i, c in zip(IMAGES, crops, strict=True)]
    counts = np.zeros((5, 5), int)
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert counts.min() >= 2 and counts.max() <= 30  # 300 crops, 25 places, 12 each on average


def test_flips_mirror_left_to_right_half_of_the_images() -> None:
    flipped = np.asarray(jax.jit(random_flip)(IMAGES, jax.random.key(1)))
    mirrored = [(f == i[:, ::-1]).all() for i, f in zip(IMAGES, flipped, strict=True)]
    same = [(f == i).all() for i, f in zip(IMAGES, flipped, strict=True)]
    assert np.logical_xor(mirrored, same).all()
    assert 110 < sum(mirrored) < 190


def test_alternating_flips_mirror_each_image_in_every_other_epoch() -> None:
    """Half of the images in one epoch, the others in the next, whatever the key; cropped or not."""
    augmentation = Augmentation(flip=True, alternate_flips=True)
    epochs = [
        np.asarray(augmentation.of_pixels(IMAGES, jax.random.key(k), jnp.int32(k)))
        for k in range(3)
    ]
    flipped = [(e == IMAGES[:, :, ::-1]).all((1, 2, 3)) for e in epochs]
    same = [(e == IMAGES).all((1, 2, 3)) for e in epochs]
    np.testing.assert_array_equal(flipped[0], same[1])
    np.testing.assert_array_equal(flipped[0], flipped[2])
    assert np.logical_xor(flipped, same).all() and 110 < sum(flipped[0]) < 190
    cropped = Augmentation(crop_padding=PADDING, flip=True, alternate_flips=True)
    seen = np.asarray(cropped.of_pixels(IMAGES, jax.random.key(0), 0))
    for image, crop, turned in zip(IMAGES, seen, flipped[0], strict=True):
        assert (crop[:, ::-1] if turned else crop).tobytes() in windows(image, PADDING)


def test_augmentation_depends_on_the_key_alone_and_can_be_left_out() -> None:
    both = Augmentation(crop_padding=PADDING, flip=True)
    a, b, other = (np.asarray(both.of_pixels(IMAGES, jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != other).any()
    np.testing.assert_array_equal(Augmentation().of_pixels(IMAGES, jax.random.key(0)), IMAGES)


def test_normalise_is_per_channel() -> None:
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (IMAGES / 255 - mean) / std
    chex.assert_trees_all_close(normalise(IMAGES, mean, std), expected.astype("f4"), atol=1e-5)


@given(st.integers(1, 50), st.data())
def test_an_epoch_takes_every_image_once(size: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, size))
    seed, epoch = data.draw(st.integers(0, 2**31)), data.draw(st.integers(0, 5))
    steps = size // batch
    order = Batches(size, batch, seed=seed)
    rows = order.indices(epoch * steps, steps)[:, 0]
    assert rows.shape == (steps, batch)
    assert len(set(rows.ravel())) == steps * batch <= size
    assert rows.min() >= 0 and rows.max() < size
    # any part of it, asked for alone, is the same: a run can go on from every step
    start = data.draw(st.integers(0, 3 * steps))
    whole = order.indices(0, 4 * steps)
    np.testing.assert_array_equal(order.indices(start, steps), whole[start : start + steps])


@given(st.integers(1, 50), st.data())
def test_the_images_left_over_make_a_smaller_batch(size: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, size))
    seed, epoch = data.draw(st.integers(0, 2**31)), data.draw(st.integers(0, 5))
    kept, whole = (Batches(size, batch, 1, last, seed) for last in ("drop", "use"))
    drop, use = kept.sizes, whole.sizes
    assert use[: len(drop)] == drop == [batch] * (size // batch)
    assert sum(use) == size and len(use) == -(-size // batch)
    assert all(0 < n < batch for n in use[len(drop) :])
    steps = range(epoch * len(use), (epoch + 1) * len(use))
    rows = [whole.indices(step, 1).ravel() for step in steps]
    assert [whole.of_step(step) for step in steps] == use
    assert [len(row) for row in rows] == use
    assert sorted(np.concatenate(rows)) == list(range(size))
    full = kept.indices(epoch * len(drop), len(drop))[:, 0]
    np.testing.assert_array_equal(rows[: len(drop)], full)


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    orders = {epoch_order(100, seed, epoch).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert (np.sort(epoch_order(100, 0, 0)) == np.arange(100)).all()


@pytest.mark.parametrize("padding", [0, 1])
def test_a_crop_keeps_the_shape(padding: int) -> None:
    chex.assert_shape(random_crop(IMAGES, jax.random.key(0), padding), IMAGES.shape)


BATCH = np.random.default_rng(1).normal(size=(6, 9, 7, 2)).astype(np.float32)


def mixed(seed: int, mixup: float, cutmix: float) -> tuple[np.ndarray, float]:
    images, share = jax.jit(mix, static_argnums=(2, 3))(BATCH, jax.random.key(seed), mixup, cutmix)
    return np.asarray(images), float(share)


def test_mixup_adds_an_image_and_its_partner_with_the_weights_of_their_labels() -> None:
    shares = []
    for seed in range(20):
        images, share = mixed(seed, 0.4, 0.0)
        np.testing.assert_allclose(
            images, share * BATCH + (1 - share) * BATCH[::-1], rtol=1e-5, atol=1e-6
        )
        shares.append(share)
    assert 0 <= min(shares) < 0.1 and 0.9 < max(shares) <= 1  # Beta(0.4, 0.4) is at its ends


def test_cutmix_puts_in_one_rectangle_whose_area_the_labels_count() -> None:
    areas = []
    for seed in range(30):
        images, share = mixed(seed, 0.0, 1.0)
        own = (images == BATCH).all((0, 3))
        other = (images == BATCH[::-1]).all((0, 3))
        assert (own ^ other).all()
        rows, columns = other.any(1), other.any(0)
        np.testing.assert_array_equal(other, rows[:, None] & columns)
        for side in (rows, columns):  # without gaps
            assert np.abs(np.diff(side.astype(int))).sum() <= 2
        assert share == pytest.approx(own.mean(), abs=1e-6)
        areas.append(1 - share)
    assert min(areas) < 0.1 and max(areas) > 0.5


def test_of_both_each_batch_takes_one() -> None:
    cuts = 0
    for seed in range(30):
        images, share = mixed(seed, 1.0, 1.0)
        added = share * BATCH + (1 - share) * BATCH[::-1]
        if not np.allclose(images, added, atol=1e-5):
            cuts += 1
            assert ((images == BATCH) | (images == BATCH[::-1])).all()
    assert 8 <= cuts <= 22


def test_erasing_takes_a_rectangle_of_some_images() -> None:
    images = np.ones((400, 20, 20, 1), np.float32)
    erased = np.asarray(jax.jit(random_erasing)(images, jax.random.key(0), 0.25))[..., 0] == 0
    touched = erased.any((1, 2))
    assert 70 <= touched.sum() <= 130
    shares = erased[touched].mean((1, 2))
    assert shares.min() >= 0.015 and 0.25 < shares.max() <= 0.36
    for one in erased[touched]:
        np.testing.assert_array_equal(one, one.any(1)[:, None] & one.any(0))


def test_rand_augment_puts_each_image_through_operations_of_its_own() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3), np.uint8)
    same = np.repeat(photo, 200, 0)
    once, again = (
        np.asarray(jax.jit(rand_augment, static_argnums=(2, 3))(same, jax.random.key(1), k, 9))
        for k in (1, 2)
    )
    assert once.dtype == np.uint8 and once.shape == same.shape
    kinds = {image.tobytes() for image in once}
    # 14 operations, nine of which have a sign; some leave such a small image as it is
    assert 14 <= len(kinds) <= 23
    assert 5 <= (once == same).all((1, 2, 3)).sum() <= 80
    assert len({image.tobytes() for image in again}) > 2 * len(kinds)


def test_operations_of_no_strength_change_nothing() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (14, 9, 9, 3), np.uint8)
    left = np.asarray(apply(jnp.asarray(photos), jnp.arange(14), jnp.ones(14), 0))
    changed = {OPERATIONS[i] for i in range(14) if (left[i] != photos[i]).any()}
    # solarize at 255 turns the brightest pixels; these two have no strength
    assert changed <= {"solarize", "autocontrast", "equalize"}
