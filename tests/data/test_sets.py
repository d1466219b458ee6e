"""Facts of a data set before anything is read, and what is read of it."""

from pathlib import Path
from typing import Any

import pytest
from photos import write_classes

from mgnet_jax.config import default
from mgnet_jax.data import sets, sources
from mgnet_jax.data.info import DataError, Info
from mgnet_jax.data.photographs import archives
from mgnet_jax.data.sources import DataSet, Source


def data(**changes: Any) -> Any:
    config = default()
    config.update_from_flattened_dict({f"data.{key}": value for key, value in changes.items()})
    return config.data


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MGNET_DATA", raising=False)


def test_what_is_published_is_known_without_a_folder() -> None:
    assert sets.describe(data(name="cifar10")) is sources.SETS["cifar10"].info
    imagenet = sets.describe(data(name="imagenet", source="tfds"))
    assert imagenet == sources.SETS["imagenet"].info
    assert (imagenet.num_classes, imagenet.train_size, imagenet.test_size) == (1000, 1281167, 50000)
    small = sets.describe(data(name="imagenet", source="tfds", image_size=96, channels=1))
    assert small.image_shape == (96, 96, 1) and len(small.mean) == len(small.std) == 1


def test_of_photographs_what_is_found_counts(tmp_path: Path) -> None:
    root = write_classes(tmp_path, {"b": 6, "a": 4})
    for name in ("photographs", "imagenet", "mnist"):
        asked = data(name=name, source="folder", dir=str(root), test_share=0.3)
        info, found = sets.describe(asked), sets.load(asked)
        assert (info.num_classes, info.train_size, info.test_size) == (2, 7, 3)
        assert found.info == info and found.class_names == ("a", "b")
        assert (len(found.train), len(found.test)) == (7, 3)
        assert info.image_shape == sources.SETS[name].info.image_shape


def test_what_is_loaded_is_told_where_no_folder_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set in tensorflow-datasets' own folder: published until it is read, then as it is."""
    found = archives.list_source(write_classes(tmp_path, {"b": 6, "a": 4}), 0.3)
    monkeypatch.setattr(sets, "_list_prepared", lambda *_: found)
    asked = data(name="imagenet", source="tfds")
    assert sets.describe(asked) == sources.SETS["imagenet"].info
    info = sets.load(asked).info
    assert (info.num_classes, info.train_size, info.test_size) == (2, 7, 3)


def test_a_folder_is_asked_for() -> None:
    with pytest.raises(DataError, match=r"no folder is given.*--config.data.dir=FOLDER"):
        sets.describe(data(name="photographs", source="folder"))


def test_a_set_of_ones_own_is_registered_in_one_place() -> None:
    import numpy as np

    def load(info: Info, root: Path | None, splits: Any) -> DataSet:
        images = sources.ImageSet(
            np.zeros((6, 5, 5, 2), np.uint8), np.arange(6, dtype=np.int32) % 3
        )
        return DataSet(info, images, images, ("x", "y", "z"))

    info = Info("mine", (5, 5, 2), 3, 100, 100, (0.5, 0.5), (0.2, 0.2))
    sources.register(Source(info, load))
    try:
        asked = data(name="mine")
        assert sets.describe(asked) == info
        assert sets.load(asked).info.train_size == 6  # what was found counts
    finally:
        del sources.SETS["mine"]
    with pytest.raises(DataError, match="unknown data set 'mine'"):
        sources.load("mine")


def test_the_test_images_are_read_alone() -> None:
    info = sources.SETS["digits"].info
    read = sets.load_test(data(), info, ())
    assert read.info.test_size == len(read.test) == 360
