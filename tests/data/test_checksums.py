"""Published sets are known by their checksums, and what differs is named."""

import dataclasses
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import command

from mgnet_jax.data import checksums, published, sources
from mgnet_jax.data.info import DataError, ImageSet


def images(name: str, count: int) -> ImageSet:
    info = sources.SETS[name].info
    pixels = np.random.default_rng(count).integers(0, 256, (count, *info.image_shape), np.uint8)
    return ImageSet(pixels, np.arange(count, dtype=np.int32) % info.num_classes)


def write(folder: Path) -> None:
    """CIFAR-10's binary version with two images a batch, and MNIST with two training images."""
    folder.mkdir(exist_ok=True)
    (folder / "batches.meta.txt").write_text("a b c d e f g h i j")
    for number in range(6):
        part = images("cifar10", 2 + number)
        rows = part.images[:2].transpose(0, 3, 1, 2).reshape(2, -1)
        content = np.column_stack([part.labels[:2], rows]).astype(np.uint8).tobytes()
        name = f"data_batch_{number}.bin" if number else "test_batch.bin"
        (folder / name).write_bytes(content)
    for part, count in (("train", 2), ("t10k", 1)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            path = folder / f"{part}-{kind}-ubyte"
            path.write_bytes(header + bytes(int(np.prod(shape))))


@pytest.fixture
def as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small files that are taken for those published."""
    write(tmp_path)
    sums = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    monkeypatch.setattr(checksums, "MD5", sums)
    for name, train, test in (("cifar10", 10, 2), ("mnist", 2, 1)):
        known = sources.SETS[name]
        info = dataclasses.replace(known.info, train_size=train, test_size=test)
        monkeypatch.setitem(sources.SETS, name, dataclasses.replace(known, info=info))
    return tmp_path


def unlike(name: str, folder: Path, splits: tuple[str, ...] = sources.SPLITS) -> str:
    return sources.load(name, str(folder), splits=splits, verify="warn").unlike


def test_every_published_file_has_a_checksum() -> None:
    files = [
        file
        for forms in published.FORMS.values()
        for form in forms
        for split in sources.SPLITS
        for group in form.groups(split)
        for file in group
    ]
    assert sorted(files) == sorted(checksums.MD5)
    assert len({*checksums.MD5.values()}) == len(files)
    assert all(len(bytes.fromhex(value)) == 16 for value in checksums.MD5.values())


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_of_published_files_nothing_is_said(name: str, as_published: Path) -> None:
    assert unlike(name, as_published) == ""
    assert sources.load(name, str(as_published), verify="strict").unlike == ""


def test_gzipped_files_are_the_same_files(as_published: Path) -> None:
    for path in list(as_published.glob("*ubyte")):
        (as_published / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    assert unlike("mnist", as_published) == ""


def cut(content: bytes) -> bytes:
    return content[:3073]


def doubled(content: bytes) -> bytes:
    return content * 2


def changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(("damage", "count"), [(cut, "9"), (doubled, "12"), (changed, "")])
def test_what_is_not_published_is_named_with_its_count(
    damage: Callable[[bytes], bytes], count: str, as_published: Path
) -> None:
    file = as_published / "data_batch_3.bin"
    file.write_bytes(damage(file.read_bytes()))
    text = unlike("cifar10", as_published)
    assert text.startswith("cifar10 is not as published: ")
    assert f"data_batch_3.bin in {as_published}" in text and "data_batch_2" not in text
    assert (f"{count} train images, of 10" in text) == bool(count)
    assert ("train images" in text) == bool(count)
    assert unlike("cifar10", as_published, ("test",)) == ""
    assert sources.load("cifar10", str(as_published)).unlike == ""
    with pytest.raises(DataError, match=r"data_batch_3.*config\.data\.verify='warn'"):
        sources.load("cifar10", str(as_published), verify="strict")


def test_the_command_says_it_or_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    arguments = [f"--config.data.dir={tmp_path}", "--config.data.name=cifar10"]
    said = {}
    for verify in ("warn", "strict", "off"):
        code = command(tmp_path / "run", *arguments, f"--config.data.verify={verify}")
        said[verify] = capsys.readouterr().err
        assert code == 2  # there are fewer images than in a batch
    warning = "cifar10 is not as published: 10 train images, of 50,000; 2 test images, of 10,000; "
    assert said["warn"].startswith(f"warning: {warning}other content")
    assert said["strict"].startswith(f"error: {warning}other content")
    assert "is more than the 10 training images" in said["warn"]
    assert "published" not in said["off"] and "10 training images" in said["off"]
    assert command(tmp_path / "run", "--config.data.verify=off") == 2
    assert "config.data.verify='off' is for mnist, cifar10, cifar100" in capsys.readouterr().err
