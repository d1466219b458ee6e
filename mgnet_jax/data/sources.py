"""The data sets by name, and the reading of those that are small enough to be read whole.

`load` reads the files as their authors published them, or a set that TensorFlow Datasets prepared.
Images are uint8 of shape (N, H, W, C), labels int32 of shape (N,); scaling and augmentation happen
elsewhere. Whatever cannot be read raises `DataError`. Nothing here starts JAX or uses the network.
"""

import dataclasses
import difflib
import importlib.util
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgnet_jax.data import checksums, published
from mgnet_jax.data.info import DataError, ImageSet, Info
from mgnet_jax.data.photographs import demo, prepared, tfds

__all__ = [
    "GRAY_MOMENTS",
    "IMAGENET_MOMENTS",
    "SETS",
    "SPLITS",
    "DataError",
    "DataSet",
    "ImageSet",
    "Info",
    "Source",
    "folder_of",
    "load",
    "register",
]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Training and test images, and the name of each class in label order.

    What was not asked for is None or, of the names, ().

    Attributes:
      unlike: what differs from the set that was published, for people; empty where nothing does, or
        nobody looked.
    """

    info: Info
    train: Any
    test: Any
    class_names: tuple[str, ...]
    unlike: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class; its number where it has none."""
        return self.class_names or tuple(map(str, range(self.info.num_classes)))


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set by name: register one and it can be trained on.

    Attributes:
      info: what is known of it without reading a file. Of photographs, the shape is that of the
        crops trained on; without classes and sizes, these come from what is found in a folder.
      load: reads the published files, whole: `load(info, folder or None, splits)`, see `load`.
        None for photographs, which are read one at a time.
      prepared: the names that tensorflow-datasets may have it under.
      make: writes it as class folders where there are none, for a set that can be made on the spot.
    """

    info: Info
    load: Callable[[Info, Path | None, Sequence[str]], DataSet] | None = None
    prepared: tuple[str, ...] = ()
    make: Callable[[Path], None] | None = None


SETS: dict[str, Source] = {}
"""The data sets by name."""

SPLITS = ("train", "test")
_NUMERALS = "0123456789"


def register(source: Source) -> None:
    """Adds a data set; a config file may do so for its own."""
    SETS[source.info.name] = source


def load(
    name: str,
    directory: str | None = None,
    source: str = "files",
    splits: Sequence[str] = SPLITS,
    verify: str = "off",
) -> DataSet:
    """Reads a small data set into memory.

    - digits: 1,797 handwritten digits of E. Alpaydin and C. Kaynak (UCI Machine Learning
      Repository), which come with scikit-learn; `directory` is not used. Every fifth image, from
      the first, is a test image.
    - mnist: Y. LeCun, C. Cortes and C. Burges; four idx files.
    - cifar10, cifar100: A. Krizhevsky (2009); the binary or the Python version. The labels of
      CIFAR-100 are the 100 fine ones.

    Args:
      name: a key of `SETS`.
      directory: the folder that holds the files, or holds the folder of the published archive; if
        None or empty, $MGNET_DATA. Any file may be gzipped.
      source: "files", or "tfds" for a set that TensorFlow Datasets prepared in the array_record
        format, in its own default folder if neither `directory` nor $MGNET_DATA is set. It has
        the same images, but TensorFlow Datasets shuffled them when it prepared them.
      splits: what is read, "train" and "test"; the files of the other need not be there.
      verify: whether a set with checksums is compared with the published one: "off", "warn" to note
        what is `unlike`, "strict" to refuse it. Of prepared sets, which are shuffled, the sizes.

    Raises:
      DataError: for an unknown name or source, and for files that are missing or malformed.
    """
    read = _read(name, directory, source, splits)
    if verify == "off" or name not in published.FORMS:
        return read
    sizes = {"train": read.info.train_size, "test": read.info.test_size}
    counts = {s: (len(getattr(read, s)), sizes[s]) for s in splits}
    root = folder_of(directory) if source == "files" else None
    if not (found := checksums.differences(name, root, counts)):
        return read
    text = f"{name} is not as published: {'; '.join(found)}"
    if verify == "strict":
        raise DataError(
            f"{text}. Get the published files, or set config.data.verify='warn' to use these"
        )
    return dataclasses.replace(read, unlike=text)


def _read(name: str, directory: str | None, source: str, splits: Sequence[str]) -> DataSet:
    """Reads a set as `load` says, whatever it holds."""
    found = SETS[_known("data set", name, SETS)]
    if _known("source", source, ("files", "tfds")) == "tfds":
        return _load_prepared(found.info, folder_of(directory))
    if found.load is None:
        raise DataError(f"{name} is not read whole: it is read from class folders or prepared")
    return found.load(found.info, folder_of(directory), splits)


def folder_of(directory: str | None) -> Path | None:
    """Returns the folder that is meant: the one given, else $MGNET_DATA, else None."""
    chosen = directory or os.environ.get("MGNET_DATA")
    return Path(chosen).expanduser() if chosen else None


def _known(what: str, word: str, words: Iterable[str]) -> str:
    """Returns `word` if it is among `words`; otherwise the error suggests the nearest."""
    words = list(words)
    if word in words:
        return word
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.0)[0]
    raise DataError(f"unknown {what} {word!r}: did you mean {near!r}? Known: {', '.join(words)}")


def _image_set(
    info: Info,
    images: np.ndarray,
    labels: np.ndarray,
    place: Path | str,
    label_place: Path | str | None = None,
) -> ImageSet:
    """Checks type, shape, counts and label range, and names the place of what does not fit."""
    label_place = label_place or place
    if not len(images):
        raise DataError(f"{place}: expected at least one image, found none")
    if images.dtype != np.uint8 or images.shape[1:] != info.image_shape:
        raise DataError(
            f"{place}: expected uint8 images of shape {info.image_shape}, "
            f"found {images.dtype} {images.shape[1:]}"
        )
    if len(labels) != len(images):
        raise DataError(
            f"{label_place}: expected a label for each of the {len(images)} images of {place}, "
            f"found {len(labels)} labels"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= info.num_classes))
    if wrong.size:
        raise DataError(
            f"{label_place}: expected labels from 0 to {info.num_classes - 1}, "
            f"found {labels[wrong[0]]} for image {wrong[0]}"
        )
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int32))


def _data_set(
    info: Info, train: Any, test: Any, names: Sequence[str], place: Path | str
) -> DataSet:
    """Checks that every class has a name."""
    if len(names) != info.num_classes:
        raise DataError(f"{place}: expected {info.num_classes} class names, found {len(names)}")
    return DataSet(info, train, test, tuple(names))


def _load_digits(info: Info, root: Path | None, splits: Sequence[str]) -> DataSet:
    """Reads scikit-learn's file of digits; importing sklearn for it would take ten times longer."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("digits come with scikit-learn, which is not installed: install it")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    text = io.StringIO(published.read_bytes(path).decode())
    rows = np.loadtxt(text, np.uint8, delimiter=",")  # 64 pixels from 0 to 16, and the label
    images = np.round(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, *info.image_shape)
    test = np.arange(len(rows)) % 5 == 0
    train_set, test_set = (_image_set(info, images[m], rows[m, -1], path) for m in (~test, test))
    return _data_set(info, train_set, test_set, _NUMERALS, path)


def _load_published(info: Info, root: Path | None, splits: Sequence[str]) -> DataSet:
    """Reads the files of MNIST or CIFAR."""
    form, paths = published.find(info.name, root, splits)

    def image_set(split: str) -> ImageSet | None:
        if split not in splits:
            return None
        parts = []
        for group in form.groups(split):
            files = [paths[file] for file in group]
            parts.append(_image_set(info, *form.read(*files), *files))
        return ImageSet(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    if "train" not in splits:
        return DataSet(info, None, image_set("test"), ())
    names = form.read_names(paths[form.names]) if form.names else _NUMERALS
    return _data_set(info, image_set("train"), image_set("test"), names, paths.get(form.names, ""))


def _load_prepared(info: Info, root: Path | None) -> DataSet:
    """Reads a set that TensorFlow Datasets prepared, without TensorFlow."""
    if info.name == "digits":
        raise DataError("digits come with scikit-learn: use source 'files' instead of 'tfds'")
    root = root or tfds.default_folder()
    remedy = (
        "Prepare it once, where TensorFlow is installed: import tensorflow_datasets as tfds; "
        f"tfds.builder({info.name!r}, data_dir=FOLDER, file_format='array_record')"
        f".download_and_prepare(). Then say where it is with {published.WHERE}"
    )
    folder = prepared.find_named(root, (info.name,))
    if folder is None:
        place = root / info.name / "VERSION" / tfds.INFO_FILE
        raise DataError(f"{info.name}: no prepared set, which would have {place}. {remedy}")
    try:
        builder = tfds.open_set(folder, remedy)
        train_set, test_set = (
            _image_set(info, *tfds.read_images(builder, split), f"{folder}, split {split}")
            for split in ("train", "test")
        )
        return _data_set(info, train_set, test_set, tfds.class_names(builder), folder)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder}: {str(error).rstrip('.')}. {remedy}") from error


_CIFAR10_MOMENTS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CIFAR100_MOMENTS = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET_MOMENTS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRAY_MOMENTS = (0.449,), (0.226,)  # of the same photographs, gray
for _source in (
    Source(Info("digits", (8, 8, 1), 10, 1437, 360, (0.3053,), (0.3762,)), _load_digits),
    Source(
        Info("mnist", (28, 28, 1), 10, 60000, 10000, (0.1307,), (0.3081,)),
        _load_published,
        ("mnist",),
    ),
    Source(
        Info("cifar10", (32, 32, 3), 10, 50000, 10000, *_CIFAR10_MOMENTS),
        _load_published,
        ("cifar10",),
    ),
    Source(
        Info("cifar100", (32, 32, 3), 100, 50000, 10000, *_CIFAR100_MOMENTS),
        _load_published,
        ("cifar100",),
    ),
    Source(
        Info("imagenet", (224, 224, 3), 1000, 1281167, 50000, *IMAGENET_MOMENTS),
        prepared=("imagenet2012", "imagenet"),
    ),
    Source(Info("photographs", (224, 224, 3), 0, 0, 0, *IMAGENET_MOMENTS)),
    Source(
        Info("demo", (64, 64, 3), len(demo.CLASSES), 900, 180, *IMAGENET_MOMENTS),
        prepared=("demo",),
        make=demo.write_demo,
    ),
):
    register(_source)
