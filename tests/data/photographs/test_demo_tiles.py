"""The demonstration's photographs: class folders; no test tile shares a pixel with the others."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import demo
from mgnet_jax.data.photographs.demo import CLASSES, PHOTOGRAPHS, SPLITS, boxes, write_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "below" / "photographs"
    write_demo(folder)
    return folder


def digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.jpg")):
        whole.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return whole.hexdigest()


def test_it_is_class_folders_of_jpegs(folder: Path) -> None:
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == ["train", "val"]
    for split, number in (("train", 2 * SPLITS["train"]), ("val", SPLITS["val"])):
        assert sorted(path.name for path in (folder / split).iterdir()) == sorted(CLASSES)
        for name in CLASSES:
            tiles = sorted((folder / split / name).iterdir())
            assert len(tiles) == number
            with Image.open(tiles[1]) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 84))
    assert folder.stat().st_mode & 0o077 == (folder.parent).stat().st_mode & 0o077


def test_no_test_tile_shares_a_pixel_with_a_tile_for_training(folder: Path) -> None:
    for photograph in PHOTOGRAPHS:
        width, height = photograph.size
        train, val = (list(boxes(photograph, split)) for split in ("train", "val"))
        assert all(0 <= a < c <= width and 0 <= b < d <= height for a, b, c, d in train + val)
        assert len({*train, *val}) == len(train) + len(val)
        first, last = min(box[0] for box in val), max(box[2] for box in val)
        assert all(right <= first or left >= last for left, _, right, _ in train)
        assert {right <= first for _, _, right, _ in train} == {True, False}, "on both sides"
        # and the tiles are cut there
        name = f"{len(val) - 1:03}.jpg"
        with Image.open(folder / "val" / photograph.name / name) as tile:
            expected = demo._read(photograph).crop(val[-1])
            pairs = zip(tile.convert("L").tobytes(), expected.convert("L").tobytes(), strict=True)
            assert sum(abs(a - b) for a, b in pairs) / (tile.width * tile.height) < 4


def test_it_is_the_same_each_time_and_made_once(folder: Path, tmp_path: Path) -> None:
    write_demo(tmp_path)  # an empty folder is as none
    assert digest(tmp_path) == digest(folder)
    (tmp_path / "val" / CLASSES[0] / "000.jpg").unlink()
    write_demo(tmp_path)
    assert not (tmp_path / "val" / CLASSES[0] / "000.jpg").exists()


def test_it_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(photograph: object, split: str) -> object:
        if split == "val" and photograph == PHOTOGRAPHS[-1]:
            raise KeyboardInterrupt
        return boxes(photograph, split)

    monkeypatch.setattr(demo, "boxes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo")
    assert not list(tmp_path.iterdir())


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="give another one"):
        write_demo(tmp_path)
    with pytest.raises(DataError, match=r"mine\.txt"):
        write_demo(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_missing_photographs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, words in (
        ("no_such_package", "which is not installed"),
        ("email", "expected the"),
    ):
        other = demo._Photograph("temple", package, "china.jpg", (640, 427), (200, 340))
        monkeypatch.setattr(demo, "PHOTOGRAPHS", (other,))
        with pytest.raises(DataError, match=words):
            write_demo(tmp_path / "demo")
    changed = demo.dataclasses.replace(PHOTOGRAPHS[0], size=(64, 42))
    monkeypatch.setattr(demo, "PHOTOGRAPHS", (changed,))
    with pytest.raises(DataError, match="expected a photograph of 64x42, found 640x427"):
        write_demo(tmp_path / "demo")
    assert not list(tmp_path.iterdir())


def test_it_imports_neither_jax_nor_what_brings_the_photographs() -> None:
    code = (
        "import sys; from mgnet_jax.data.photographs import demo; "
        "sys.exit(', '.join({'jax', 'sklearn', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
