"""Other images are seen to be others."""

from pathlib import Path

import numpy as np
from photos import Shades, write_classes

from mgnet_jax.data.fingerprint import fingerprint
from mgnet_jax.data.info import ImageSet, Subset
from mgnet_jax.data.photographs.folders import list_folders
from mgnet_jax.data.photographs.prepared import read_listing
from mgnet_jax.tools.prepare import prepare


def test_every_pixel_and_label_counts() -> None:
    images, labels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.zeros(2, np.int32)
    first = fingerprint(ImageSet(images, labels))
    assert len(first) == 64
    assert fingerprint(ImageSet(images[:, :, ::-1][:, :, ::-1], labels.copy())) == first
    other = images.copy()
    other[1, 3, 3, 2] ^= 1
    others = [ImageSet(other, labels), ImageSet(images, labels + np.array([0, 1], np.int32))]
    others += [ImageSet(images[:1], labels[:1]), ImageSet(images.reshape(2, 2, 8, 3), labels)]
    assert len({first, *map(fingerprint, others)}) == 5
    assert fingerprint(None) == ""


def test_photographs_are_known_by_what_they_are_called_wherever_they_lie(tmp_path: Path) -> None:
    one, moved = (write_classes(tmp_path / x, {"a": 5, "b": 5}) for x in ("one", "moved"))
    prints = [fingerprint(list_folders(root, 0.3).train) for root in (one, moved)]
    assert prints[0] == prints[1]
    (one / "a" / "000.jpg").rename(one / "a" / "x.jpg")
    assert fingerprint(list_folders(one, 0.3).train) != prints[0]
    shades = Shades(4)
    assert fingerprint(Subset(shades, np.arange(2))) != fingerprint(Subset(shades, np.arange(3)))


def test_prepared_sets_are_known_by_their_shards(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 5})
    homes = [prepare(folder, tmp_path / x, "shades", test_share=0.3) for x in ("one", "other")]
    listings = [read_listing(home) for home in homes]
    assert len({fingerprint(listing.train) for listing in listings}) == 1
    assert fingerprint(listings[0].train) != fingerprint(listings[0].test)
