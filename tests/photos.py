"""Photographs that tests make, in memory and in class folders."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(value: int, size: tuple[int, int] = (12, 10)) -> bytes:
    """A JPEG of one shade of gray, width x height."""
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, "JPEG", quality=95)
    return file.getvalue()


class Shades:
    """Photographs in memory; number i has the shade and the label i."""

    def __init__(self, count: int, damaged: int | None = None) -> None:
        self.labels = np.arange(count, dtype=np.int32)
        self.damaged = damaged

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        from mgnet_jax.data.info import DataError

        if index == self.damaged:
            raise DataError(f"shade {index} is damaged")
        return jpeg(index, (12 + index % 5, 10 + index % 3)), index

    def name(self, index: int) -> str:
        return f"shade {index}"

    def traits(self) -> Iterator[bytes]:
        yield self.labels.tobytes()


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, int] = (20, 16)) -> Path:
    """Class folders below `root`; the classes differ in shade, the photographs a little."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = rng.integers(0, 60, (size[1], size[0], 3)) + 60 * (number % 4)
            Image.fromarray(shade.astype(np.uint8)).save(folder / f"{i:03}.jpg", quality=95)
    return root


def photograph(number: int, mode: str = "RGB", form: str = "JPEG") -> bytes:
    """Noise, another for each number, 20 to 39 pixels wide."""
    random = np.random.default_rng(number)
    shape = (24, 20 + number % 20) + ((3,) if mode == "RGB" else ())
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(file, form)
    return file.getvalue()


def make_folders(root: Path, each: int = 4, classes: str = "abc") -> Path:
    """Folders train/CLASS with `each` photographs and val/CLASS with one; every fourth is gray."""
    number = 0
    for name in classes:
        for split, count in (("train", each), ("val", 1)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                mode = "L" if number % 4 == 3 else "RGB"
                (folder / f"{name}{i}.jpg").write_bytes(photograph(number, mode))
                number += 1
    return root


def cut(path: Path) -> None:
    """Loses the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
