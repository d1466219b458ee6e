"""Prepared sets of photographs: found, read as tensorflow-datasets wrote them, and damage named."""

import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import cut, photograph

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs.prepared import find, labels_file, read_listing
from mgnet_jax.data.photographs.tfds import INFO_FILE

CLASSES = ["n01440764", "n01443537", "n01484850"]
TRAIN, VALIDATION, TEST = range(30), range(100, 107), range(200, 203)


def label(number: int) -> int:
    return number % len(CLASSES)


def name(number: int) -> str:
    return f"{CLASSES[label(number)]}_{number}.JPEG"


def official(folder: Path, tests: str = "validation", **features: Any) -> Path:
    """A set as tensorflow-datasets' own imagenet2012 is, which has shuffled its photographs."""
    import tensorflow_datasets as tfds

    kinds = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "file_name": tfds.features.Text(),
        **features,
    }

    def info(self: Any) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(kinds))

    def examples(self: Any, numbers: range) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in numbers:
            image = io.BytesIO(photograph(number))
            values = {"image": image, "label": label(number), "file_name": name(number)}
            yield name(number), {key: values.get(key, 0.0) for key in kinds}

    def split_generators(self: Any, _: Any) -> dict[str, Any]:
        splits = {"train": TRAIN, tests: VALIDATION, "test": TEST}
        return {split: examples(self, numbers) for split, numbers in splits.items()}

    members = {
        "__module__": __name__,
        "VERSION": tfds.core.Version("5.1.0"),
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": examples,
    }
    kind = type("Imagenet2012", (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(num_shards=3)
    kind(data_dir=folder, file_format="array_record").download_and_prepare(download_config=config)
    return folder / "imagenet2012" / "5.1.0"


@pytest.fixture(scope="module")
def of_tfds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official(tmp_path_factory.mktemp("official"))


@pytest.fixture
def copied(of_tfds: Path, tmp_path: Path) -> Path:
    """That set, to be damaged."""
    folder = tmp_path / "imagenet2012" / "5.1.0"
    folder.mkdir(parents=True)
    for path in of_tfds.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def contents(photographs: Any) -> list[tuple[str, bytes, int]]:
    return [(photographs.name(i), *photographs[i]) for i in range(len(photographs))]


def test_a_set_of_tensorflow_datasets_is_read_as_it_is(of_tfds: Path) -> None:
    assert len(list(of_tfds.glob("*-train.array_record-0000?-of-00003"))) == 3
    listing = read_listing(of_tfds)
    assert listing.class_names == tuple(CLASSES)
    for part, numbers in ((listing.train, TRAIN), (listing.test, VALIDATION)):
        assert part.labels is None and len(part) == len(numbers)
        expected = [(name(number), photograph(number), label(number)) for number in numbers]
        assert sorted(contents(part)) == sorted(expected)
    with pytest.raises(IndexError):
        listing.train[len(TRAIN)]


def test_the_order_is_that_of_tensorflow_datasets(of_tfds: Path) -> None:
    import tensorflow_datasets as tfds

    train = read_listing(of_tfds).train
    source = tfds.builder_from_directory(of_tfds).as_data_source("train")
    names = [example["file_name"].decode() for example in source]
    assert names == [train.name(i) for i in range(len(train))]


def test_threads_share_it_and_processes_get_a_copy(of_tfds: Path) -> None:
    train = read_listing(of_tfds).train
    expected = contents(train)
    copy = pickle.loads(pickle.dumps(train))
    copy._most = 1  # so that shards are closed while other threads read them
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda i: (copy.name(i), *copy[i]), [*range(len(copy))] * 20)
        assert list(found) == expected * 20
    assert len(copy._readers) == 1


def test_reading_needs_neither_tensorflow_nor_jax(of_tfds: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from mgnet_jax.data.photographs import prepared
assert not {{"tensorflow_datasets", "array_record"}} & sys.modules.keys()
assert len(prepared.read_listing(Path({str(of_tfds)!r})).train[3][0]) > 500
assert not {{"jax", "tensorflow"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_test_is_the_split_to_score_on_where_there_is_no_validation(tmp_path: Path) -> None:
    assert len(read_listing(official(tmp_path, tests="extra")).test) == len(TEST)


def touch(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / INFO_FILE).touch()


def test_a_set_is_found_from_above(tmp_path: Path) -> None:
    assert find(tmp_path, ("a",)) is None
    assert find(tmp_path / "missing", ()) is None
    (tmp_path / "a" / "11.0.0").mkdir(parents=True)  # not prepared to the end
    (tmp_path / ".lock").touch()
    assert find(tmp_path, ("a",)) is None
    newest = tmp_path / "a" / "10.0.0"
    touch(newest, tmp_path / "a" / "9.0.1", tmp_path / "a" / "9.11.0", tmp_path / "a" / "x")
    for root in (tmp_path, tmp_path / "a", newest):
        for names in ((), ("a",), ("b", "a")):
            assert find(root, names) == newest
    assert find(tmp_path, ("b",)) == newest  # the only one
    touch(tmp_path / "b" / "1.0.0")
    assert find(tmp_path, ("c", "b", "a")) == tmp_path / "b" / "1.0.0"
    with pytest.raises(DataError, match=r"2 prepared sets: name one of .*a/10.0.0, .*b/1.0.0"):
        find(tmp_path, ("c",))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.zeros(30, np.int64), r"int64 \(30,\)"),
        (np.zeros(29, np.int32), r"int32 \(29,\)"),
        (np.arange(30, dtype=np.int32) % 4, "has labels from 0 to 3, and the set names 3 classes"),
        (np.arange(30, dtype=np.int32) % 3 - 1, "has labels from -1 to 1"),
        (None, "is damaged"),
    ],
)
def test_labels_have_a_file_of_their_own_in_our_sets(
    labels: np.ndarray | None, found: str, copied: Path
) -> None:
    sidecar = copied / labels_file("train")
    np.save(sidecar, np.arange(30, dtype=np.int32) % 3)
    assert (read_listing(copied).train.labels == np.arange(30) % 3).all()
    if labels is None:
        sidecar.write_bytes(b"\x93NUMPY")
    else:
        np.save(sidecar, labels)
    with pytest.raises(DataError, match=f"{re.escape(str(sidecar))}.*{found}.*again"):
        read_listing(copied)


def test_every_changed_byte_of_a_photograph_is_found(copied: Path) -> None:
    shard = next(copied.glob("*train*-00001-of-*"))
    content = shard.read_bytes()
    train = read_listing(copied).train
    place = max(content.find(photograph(number)[-60:-30]) for number in TRAIN)
    assert place > 0
    for bit in range(8):
        changed = bytearray(content)
        changed[place + 3 * bit] ^= 1 << bit
        shard.write_bytes(changed)
        read = pickle.loads(pickle.dumps(train))
        errors = []
        for i in range(len(read)):
            try:
                read[i]
            except DataError as error:
                errors.append(str(error))
                assert read.name(i).startswith(f"{shard}, record ")
        (error,) = errors
        assert re.match(rf"{re.escape(str(shard))}, record \d+ is damaged: .*hash mismatch", error)
        assert "run the --mode=prepare that made it again" in error


def test_a_shard_that_is_cut_is_named(copied: Path) -> None:
    shard = next(copied.glob("*train*-00000-of-*"))
    cut(shard)
    with pytest.raises(DataError, match=rf"{re.escape(str(shard))}: expected \d+ records, found 0"):
        read_listing(copied).train[0]


def test_who_knows_the_classes_needs_the_test_images_alone(copied: Path) -> None:
    assert len(read_listing(copied, CLASSES).train) == len(TRAIN)
    next(copied.glob("*-train.array_record-00001*")).unlink()
    listing = read_listing(copied, CLASSES)
    assert listing.train is None and len(listing.test) == len(VALIDATION)
    with pytest.raises(DataError, match=r"lacks 1 shards, first imagenet2012-train.array_record-"):
        read_listing(copied)
    lose_a_shard(copied)
    with pytest.raises(DataError, match=r"lacks 1 shards, first imagenet2012-validation.array_"):
        read_listing(copied, CLASSES)


def test_a_photograph_that_is_none_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("test_prepared.photograph", lambda number: b"\xff\xd8 no more")
    train = read_listing(official(tmp_path)).train
    with pytest.raises(DataError, match=r"imagenet2012-train.array_record-00000-of-.*, record 0: "):
        train[0]


def lose_a_shard(folder: Path) -> None:
    next(folder.glob("*-validation.array_record*")).unlink()


def empty_the_info(folder: Path) -> None:
    (folder / INFO_FILE).write_text("")


def lose_the_features(folder: Path) -> None:
    (folder / "features.json").unlink()


def change_the_format(folder: Path) -> None:
    info = folder / INFO_FILE
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def lose_a_split(folder: Path) -> None:
    info = folder / INFO_FILE
    info.write_text(info.read_text().replace('"train"', '"more"'))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose_a_shard, "lacks 1 shards, first imagenet2012-validation.array_record-00000-of-0000"),
        (empty_the_info, "is no whole set of photographs: "),
        (lose_the_features, "is no whole set of photographs: "),
        (change_the_format, "expected the format array_record, found tfrecord"),
        (lose_a_split, "'train'"),
    ],
)
def test_a_damaged_set_is_named(harm: Callable[[Path], None], words: str, copied: Path) -> None:
    harm(copied)
    with pytest.raises(DataError) as error:
        read_listing(copied)
    text = str(error.value)
    assert str(copied) in text and words in text and "--mode=prepare" in text


def test_a_set_of_something_else_is_named(tmp_path: Path) -> None:
    folder = official(tmp_path, label=np.float32)
    with pytest.raises(DataError, match="a feature 'label' of the type ClassLabel, found"):
        read_listing(folder)
