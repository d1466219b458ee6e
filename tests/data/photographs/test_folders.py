"""Folders of photographs: which files belong to which class and split, and what is refused."""

import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgnet_jax.data.info import DataError, Photographs
from mgnet_jax.data.photographs.archives import list_source
from mgnet_jax.data.photographs.folders import SUFFIXES, Files, list_folders


def touch(root: Path, names: Iterable[str]) -> Path:
    """Files that hold their own name; `list_folders` opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))
    return root


def split(listing: Photographs) -> list[tuple[str, int]]:
    assert isinstance(listing, Files)
    assert listing.labels.dtype == np.int32
    assert len(listing) == len(listing.names) == len(listing.labels)
    for index, name in enumerate(listing.names):
        assert listing.name(index) == f"{listing.root}/{name}"
        assert listing.raw(index).decode().endswith(name)
    return list(zip(listing.names, listing.labels.tolist(), strict=True))


@pytest.mark.parametrize("tests", ["val", "validation", "test"])
def test_classes_are_folders_in_order_and_files_follow_by_path(tests: str, tmp_path: Path) -> None:
    touch(
        tmp_path,
        [
            *("train/dog/b.JPG", "train/dog/a.png", "train/dog/more/deep/0.jpeg"),
            *("train/dog/B.jpg", "train/Zebra/x.jpg", "train/cat/10.jpg", "train/cat/9.jpg"),
            *("train/cat/.hidden.jpg", "train/cat/notes.txt", "train/cat/.cache/a.jpg"),
            *("train/readme.jpg", "train/.git/a.jpg", f"{tests}/dog/1.jpg", f"{tests}/cat/2.tiff"),
            *("other/a/1.jpg", "unlabelled.jpg"),
        ],
    )
    listing = list_source(tmp_path, 0.5)
    assert listing.class_names == ("Zebra", "cat", "dog")
    assert split(listing.train) == [
        *(("Zebra/x.jpg", 0), ("cat/10.jpg", 1), ("cat/9.jpg", 1), ("dog/B.jpg", 2)),
        *(("dog/a.png", 2), ("dog/b.JPG", 2), ("dog/more/deep/0.jpeg", 2)),
    ]
    assert split(listing.test) == [("cat/2.tiff", 1), ("dog/1.jpg", 2)]


def test_all_common_suffixes_are_photographs_and_links_are_followed(tmp_path: Path) -> None:
    names = [f"a/{number}{suffix.upper()}" for number, suffix in enumerate(SUFFIXES)]
    touch(tmp_path / "elsewhere", ["b/1.jpg", "b/2.jpg"])
    touch(tmp_path / "set/train", names)
    touch(tmp_path / "set/val", ["a/1.jpg"])
    (tmp_path / "set/train/b").symlink_to(tmp_path / "elsewhere/b")
    (tmp_path / "set/train/a/link.jpg").symlink_to(tmp_path / "elsewhere/b/1.jpg")
    listing = list_folders(tmp_path / "set", 0.1)
    assert isinstance(listing.train, Files)
    assert listing.train.names == [*sorted([*names, "a/link.jpg"]), "b/1.jpg", "b/2.jpg"]


def test_a_folder_of_unlabelled_photographs_is_no_test_split(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "val/b/2.jpg", "test/00001.jpg"])
    assert split(list_folders(tmp_path, 0.1).test) == [("b/2.jpg", 1)]


def test_without_a_test_split_a_share_of_every_class_is_one(tmp_path: Path) -> None:
    sizes = {"a": 40, "b": 20, "c": 5}
    touch(tmp_path, [f"{name}/{i:02}.jpg" for name, size in sizes.items() for i in range(size)])
    listing = list_folders(tmp_path, 0.2)
    assert listing.class_names == ("a", "b", "c")
    train, test = split(listing.train), split(listing.test)
    assert sorted([*train, *test]) == sorted(
        (f"{name}/{i:02}.jpg", "abc".index(name))
        for name, size in sizes.items()
        for i in range(size)
    )
    assert train == sorted(train)
    assert test == sorted(test)
    assert np.bincount([label for _, label in test]).tolist() == [8, 4, 1]
    assert split(list_folders(tmp_path, 0.2).test) == test
    assert [name for name, _ in test[:8]] != [f"a/{i:02}.jpg" for i in range(8)]


def test_listing_makes_no_system_call_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, [f"{name}/{i}.jpg" for name in "ab" for i in range(50)])
    calls = []
    stat, opened = os.stat, os.open
    monkeypatch.setattr(os, "stat", lambda *a, **k: calls.append(a) or stat(*a, **k))
    monkeypatch.setattr(os, "open", lambda *a, **k: calls.append(a) or opened(*a, **k))
    list_folders(tmp_path, 0.1)
    monkeypatch.undo()
    assert len(calls) < 20


WRONG: list[tuple[list[str], str, str]] = [
    ([], "", "holds no folder, of at least 2 classes: expected the folders train/CLASS"),
    (["1.jpg"], "", "holds no folder, of at least 2 classes"),
    (["a/1.jpg"], "", "holds only the folder a, of at least 2 classes"),
    (["train/a/1.jpg", "val/a/1.jpg"], "/train", "holds only the folder a, of at least 2"),
    (["train/1.jpg", "val/a/1.jpg"], "/train", "holds no folder, of at least 2 classes"),
    (["train/a/1.jpg", "train/b/1.jpg"], "", "no folder val, validation, test with classes"),
    (["train/a/1.jpg", "train/b/1.jpg", "val/1.jpg"], "", "no folder val, validation, test with"),
    (["val/a/1.jpg", "b/1.jpg"], "", "has a folder val, but no folder train"),
    (
        ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "test/a/1.jpg"],
        "",
        "has the folders val and test, one of which is to be the test split: give the others",
    ),
    (["a/1.jpg", "b/1.txt"], "/b", "holds no photograph, a file that ends in .jpg, .jpeg,"),
    (["a/1.jpg", "b/.1.jpg"], "/b", "holds no photograph"),
    (
        ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/c/1.jpg", "val/d/1.jpg"],
        "/val",
        "has the class c, which no photograph to train on has (2 such of 3 classes): name the",
    ),
    (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.txt"], "/val/a", "holds no photograph"),
    (["a/1.jpg", "b/1.jpg"], "", "0.1 of 2 photographs leave one split empty; give another share"),
]


@pytest.mark.parametrize(("names", "place", "words"), WRONG)
def test_another_layout_is_refused_with_what_was_found(
    names: list[str], place: str, words: str, tmp_path: Path
) -> None:
    touch(tmp_path, names)
    with pytest.raises(DataError) as caught:
        list_source(tmp_path, 0.1)
    assert str(caught.value).startswith(f"{tmp_path}{place}")
    assert words in str(caught.value)


def test_no_folder_and_no_share_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "absent", touch(tmp_path, ["file"]) / "file"):
        with pytest.raises(DataError) as caught:
            list_source(place, 0.1)
        assert str(caught.value).startswith(f"{place} is not a folder: expected the folders train")
    touch(tmp_path, ["a/1.jpg", "b/1.jpg"])
    for share in (0.0, 1.0, -0.5, 1.5):
        with pytest.raises(DataError, match=f"a share of {share} cannot be the test split"):
            list_folders(tmp_path, share)


def test_a_link_in_a_circle_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.jpg", "b/1.jpg"])
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    words = f"^{tmp_path}/a cannot be read: Too many levels of symbolic links: .*remove the link$"
    with pytest.raises(DataError, match=words):
        list_folders(tmp_path, 0.1)
    (tmp_path / "a/again").unlink()
    (tmp_path / "a/2.jpg").symlink_to("2.jpg")
    with pytest.raises(DataError, match=words):
        list_folders(tmp_path, 0.1)


def test_a_pipe_is_no_photograph_and_a_link_to_nothing_is_one(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"])
    os.mkfifo(tmp_path / "train/a/pipe.jpg")
    (tmp_path / "train/a/link.jpg").symlink_to(tmp_path / "train/a/pipe.jpg")
    (tmp_path / "train/b/nothing.jpg").symlink_to(tmp_path / "nowhere.jpg")
    train = list_folders(tmp_path, 0.1).train
    assert isinstance(train, Files)
    assert train.names == ["a/1.jpg", "b/1.jpg", "b/nothing.jpg"]


@pytest.mark.parametrize("name", [b" a", b"a\t", b"\xc2\xa0a", b"b\nc", b"b\x7f", b"b\xff"])
def test_names_of_classes_that_no_list_holds_are_refused(name: bytes, tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.jpg", "c d\u00e9/1.jpg"])
    strange = os.fsdecode(name)
    touch(tmp_path, [f"{strange}/1.jpg"])
    with pytest.raises(DataError) as caught:
        list_source(tmp_path, 0.5)
    assert str(caught.value).startswith(f"{tmp_path}: the class {strange!a} has a space at")
    assert str(caught.value).endswith("cannot hold: rename its folder")


def test_photographs_are_read_as_jpegs_also_by_a_worker(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "val/a/1.jpg"])
    picture = Image.new("RGB", (40, 30), (10, 200, 30))
    picture.save(tmp_path / "train/a/1.jpg", "JPEG")
    picture.save(tmp_path / "train/b/1.jpg", "PNG")
    train = list_folders(tmp_path, 0.1).train
    worker = pickle.loads(pickle.dumps(train))
    for files in (train, worker):
        assert files[0] == ((tmp_path / "train/a/1.jpg").read_bytes(), 0)
        jpeg, label = files[2]
        assert label == 1
        assert jpeg.startswith(b"\xff\xd8")
        path = tmp_path / "train/a/2.jpg"
        with pytest.raises(DataError) as caught:
            files[1]
        assert str(caught.value) == (
            f"{path}: no image that Pillow reads: it begins with 'train/a/2.jp'; mend or remove "
            "it, or leave it out with --mode=prepare --on_bad=skip"
        )
    (tmp_path / "train/a/2.jpg").unlink()
    with pytest.raises(DataError) as caught:
        worker[1]
    assert str(caught.value).startswith(f"{path}: No such file or directory; mend or remove it")
