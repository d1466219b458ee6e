"""A small set of photographs made on the spot: tiles of three that come with other packages.

The photographs are read where they are installed, not copied into this package:

- temple: scikit-learn's `china.jpg`, flickr.com/photos/danielbuechele/6061409035, by
  danielbuechele, CC BY 2.0.
- flower: scikit-learn's `flower.jpg`, flickr.com/photos/vultilion/6056698931, CC BY 2.0; the README
  beside it gives that address, and danielbuechele as the author of this one too.
- portrait: Matplotlib's `grace_hopper.jpg`, Grace Hopper by James S. Davis, United States Navy,
  public domain.

Nothing here imports these packages, or JAX.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from mgnet_jax.data.info import DataError

Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class _Photograph:
    """One class: its name, whose package and file it is, its size, and which columns are for tests.

    These go through the middle of what is seen; on both sides of them are the tiles to train on.
    """

    name: str
    package: str
    file: str
    size: tuple[int, int]
    middle: tuple[int, int]


PHOTOGRAPHS = (
    _Photograph("flower", "sklearn", "datasets/images/flower.jpg", (640, 427), (300, 440)),
    _Photograph(
        "portrait", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (512, 600), (245, 385)
    ),
    _Photograph("temple", "sklearn", "datasets/images/china.jpg", (640, 427), (200, 340)),
)
CLASSES = tuple(photograph.name for photograph in PHOTOGRAPHS)
SPLITS = {"train": 150, "val": 60}
"""How many tiles are cut from a part of a photograph; to train there are two parts."""

_SHAPES = ((96, 96), (112, 84), (84, 112))
"""Width and height of the tiles, in turn."""
_COLUMNS = 10


def boxes(photograph: _Photograph, split: str) -> Iterator[Box]:
    """Where the tiles of a split are cut: left, top, right, bottom, evenly over its parts."""
    width, height = photograph.size
    first, last = photograph.middle
    for left, right in [(0, first), (last, width)] if split == "train" else [(first, last)]:
        rows = SPLITS[split] // _COLUMNS
        for number in range(SPLITS[split]):
            tile_width, tile_height = _SHAPES[number % len(_SHAPES)]
            row, column = divmod(number, _COLUMNS)
            x = left + column * (right - left - tile_width) // (_COLUMNS - 1)
            y = row * (height - tile_height) // (rows - 1)
            yield x, y, x + tile_width, y + tile_height


def write_demo(folder: Path) -> None:
    """Makes the set, unless it is there: FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg.

    The same packages give the same bytes. The folder appears when all of it is written.

    Raises:
      DataError: a photograph is not there, or the folder holds something else.
    """
    if _is_there(folder):
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected no such folder yet, or one with train and val; give another one"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        made = Path(place, "made")
        for photograph in PHOTOGRAPHS:
            image = _read(photograph)
            for split in SPLITS:
                tiles = made / split / photograph.name
                tiles.mkdir(parents=True)
                for number, box in enumerate(boxes(photograph, split)):
                    image.crop(box).save(tiles / f"{number:03}.jpg", quality=95)
        try:
            made.rename(folder)
        except OSError:
            if not _is_there(folder):  # else somebody else has just made it
                raise


def _is_there(folder: Path) -> bool:
    return all(os.path.isdir(folder / split) for split in SPLITS)


def _read(photograph: _Photograph) -> Image.Image:
    """The photograph, from where its package is installed."""
    spec = find_spec(photograph.package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the demonstration's {photograph.name} comes with {photograph.package}, which is not "
            f"installed: install it"
        )
    path = Path(spec.submodule_search_locations[0], photograph.file)
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise DataError(
            f"{path}: expected the photograph that comes with {photograph.package}, for the "
            f"demonstration's {photograph.name}: {error}"
        ) from error
    if image.size != photograph.size:
        raise DataError(
            f"{path}: expected a photograph of {photograph.size[0]}x{photograph.size[1]}, found "
            f"{image.size[0]}x{image.size[1]}"
        )
    return image
