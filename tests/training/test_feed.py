"""What hands compiled calls their batches: a set on the device, or a stream, spread over it."""

import jax
import numpy as np
import pytest
from photos import Shades

from mgnet_jax.data.cut import Cut
from mgnet_jax.data.info import ImageSet
from mgnet_jax.data.order import Batches
from mgnet_jax.data.stream import Reading
from mgnet_jax.training import sharding
from mgnet_jax.training.feed import (
    ResidentScoring,
    ResidentTraining,
    Streamed,
    scoring_feed,
    training_feed,
)

CUT = Cut((4, 3, 1), 1.0, 5, "pillow")
RNG = np.random.default_rng(0)
IMAGES = ImageSet(RNG.integers(0, 256, (44, 4, 3, 1), np.uint8), np.arange(44, dtype=np.int32))


def test_a_set_in_memory_is_resident_and_photographs_are_streamed() -> None:
    mesh = sharding.make_mesh()
    arguments = Batches(44, 8, 2), CUT, Reading(), mesh
    assert isinstance(training_feed(IMAGES, *arguments), ResidentTraining)
    assert isinstance(scoring_feed(IMAGES, 8, *arguments[1:]), ResidentScoring)
    feed = training_feed(Shades(44), *arguments)
    assert isinstance(feed, Streamed) and feed.streamed
    assert "read by" in feed.note and "pillow" in feed.note and "MiB ahead" in feed.note
    assert (feed.size, feed.batches) == (44, 5)
    scoring = scoring_feed(Shades(44), 8, *arguments[1:])
    assert (scoring.size, scoring.batches) == (44, 6)


def test_a_streamed_batch_is_split_over_the_devices_and_its_wait_is_timed() -> None:
    feed = training_feed(Shades(44), Batches(44, 8, 2), CUT, Reading(), sharding.make_mesh())
    images, labels = feed.arrays(3, 1)
    assert feed.came > feed.asked > 0
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), feed.abstract(8))
    assert shapes == (((2, 4, 4, 3, 1), np.uint8), ((2, 4), np.int32))
    for array, shape in zip((images, labels), feed.abstract(8), strict=True):
        assert (array.shape, array.dtype, array.sharding) == (
            shape.shape,
            shape.dtype,
            shape.sharding,
        )
    assert {s.data.shape for s in labels.addressable_shards} == {(2, 2)}  # of every part its rows
    after = feed.arrays(4, 1)
    # asked for anew, from the first and from within
    again = [feed.arrays(step, 1) for step in (3, 4)]
    np.testing.assert_array_equal(again[0][1], labels)
    np.testing.assert_array_equal(again[1][1], after[1])
    feed.close()
    feed.close()


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_scoring_gives_every_image_once(kind: str) -> None:
    images = IMAGES if kind == "resident" else Shades(44)
    feed = scoring_feed(images, 8, CUT, Reading(), sharding.make_mesh())
    labels = []
    for first in range(feed.batches):
        batch = feed.batch(feed.arrays(first, 1), 0)
        assert batch[0].shape == (8, 4, 3, 1)
        labels += np.asarray(batch[1]).tolist()
    feed.close()
    assert labels == [*range(44), *[-1] * 4]
