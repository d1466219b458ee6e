"""Small image sets, read whole into memory: digits, MNIST, CIFAR-10 and CIFAR-100.

`load` reads the files as their authors published them, or a set that TensorFlow Datasets prepared.
Images are uint8 of shape (N, H, W, C), labels int32 of shape (N,); scaling and augmentation happen
elsewhere. Whatever cannot be read raises `DataError`. Nothing here starts JAX or uses the network.
"""

import dataclasses
import difflib
import importlib.util
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mgnet_jax.data import published
from mgnet_jax.data.info import DataError, ImageSet, Info

__all__ = ["INFO", "DataError", "DataSet", "ImageSet", "Info", "hold_out", "load"]


_NUMERALS = "0123456789"
_CIFAR10_MOMENTS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CIFAR100_MOMENTS = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
INFO: dict[str, Info] = {
    info.name: info
    for info in (
        Info("digits", (8, 8, 1), 10, 1437, 360, (0.3053,), (0.3762,)),
        Info("mnist", (28, 28, 1), 10, 60000, 10000, (0.1307,), (0.3081,)),
        Info("cifar10", (32, 32, 3), 10, 50000, 10000, *_CIFAR10_MOMENTS),
        Info("cifar100", (32, 32, 3), 100, 50000, 10000, *_CIFAR100_MOMENTS),
    )
}


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A whole set: training images, test images, and the name of each class in label order."""

    info: Info
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]


def load(name: str, directory: str | None = None, source: str = "files") -> DataSet:
    """Reads a data set into memory.

    - digits: 1,797 handwritten digits of E. Alpaydin and C. Kaynak (UCI Machine Learning
      Repository), which come with scikit-learn; `directory` is not used. Every fifth image, from
      the first, is a test image.
    - mnist: Y. LeCun, C. Cortes and C. Burges; four idx files.
    - cifar10, cifar100: A. Krizhevsky (2009); the binary or the Python version. The labels of
      CIFAR-100 are the 100 fine ones.

    Args:
      name: a key of `INFO`.
      directory: the folder that holds the files, or holds the folder of the published archive; if
        None or empty, $MGNET_DATA. Any file may be gzipped.
      source: "files", or "tfds" for a set that TensorFlow Datasets prepared in the array_record
        format, in its own default folder if neither `directory` nor $MGNET_DATA is set. It has
        the same images, but TensorFlow Datasets shuffled them when it prepared them.

    Raises:
      DataError: for an unknown name or source, and for files that are missing or malformed.
    """
    info = INFO[_known("data set", name, INFO)]
    chosen = directory or os.environ.get("MGNET_DATA")
    root = Path(chosen).expanduser() if chosen else None
    if _known("source", source, ("files", "tfds")) == "tfds":
        return _load_prepared(info, root)
    return _load_digits(info) if name == "digits" else _load_published(info, root)


def hold_out(train: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Splits off `count` images at random, without replacement, in proportion in each class.

    A class of n among N images gives n * count / N of them, rounded down or up. Both parts keep
    the order of `train`; the same arguments give the same parts.

    Returns:
      (kept, held_out), of len(train) - count and count images.

    Raises:
      DataError: unless 0 <= count < len(train).
    """
    total = len(train)
    if not 0 <= count < total:
        raise DataError(f"cannot hold out {count} of {total} images: give 0 to {total - 1}")
    random = np.random.default_rng((seed, total, count))
    shuffled = random.permutation(total)
    by_class = shuffled[np.argsort(train.labels[shuffled], kind="stable")]
    held = np.zeros(total, bool)
    # equal steps through the classes laid end to end, from a random start
    held[by_class[(np.arange(count) * total + random.integers(total)) // count]] = True
    kept_part, held_part = (ImageSet(train.images[m], train.labels[m]) for m in (~held, held))
    return kept_part, held_part


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
    info: Info, train: ImageSet, test: ImageSet, names: Sequence[str], place: Path | str
) -> DataSet:
    """Checks that every class has a name."""
    if len(names) != info.num_classes:
        raise DataError(f"{place}: expected {info.num_classes} class names, found {len(names)}")
    return DataSet(info, train, test, tuple(names))


def _load_digits(info: Info) -> DataSet:
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


def _load_published(info: Info, root: Path | None) -> DataSet:
    """Reads the files of MNIST or CIFAR."""
    form, paths = published.find(info.name, root)

    def image_set(groups: Sequence[Sequence[str]]) -> ImageSet:
        parts = []
        for group in groups:
            files = [paths[file] for file in group]
            parts.append(_image_set(info, *form.read(*files), *files))
        return ImageSet(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    names = form.read_names(paths[form.names]) if form.names else _NUMERALS
    return _data_set(
        info, image_set(form.train), image_set(form.test), names, paths.get(form.names, "")
    )


def _load_prepared(info: Info, root: Path | None) -> DataSet:
    """Reads a set that TensorFlow Datasets prepared, without TensorFlow."""
    if info.name == "digits":
        raise DataError("digits come with scikit-learn: use source 'files' instead of 'tfds'")
    import tensorflow_datasets as tfds  # here, since only this needs it

    root = root or Path(tfds.core.constants.DATA_DIR).expanduser()
    remedy = (
        "Prepare it once, where TensorFlow is installed: import tensorflow_datasets as tfds; "
        f"tfds.builder({info.name!r}, data_dir=FOLDER, file_format='array_record')"
        f".download_and_prepare(). Then say where it is with {published.WHERE}"
    )
    versions = tfds.core.utils.version.list_all_versions(root / info.name)
    folders = [root, *(root / info.name / str(version) for version in reversed(versions))]
    folder = next((f for f in folders if os.path.isfile(f / "dataset_info.json")), None)
    if folder is None:
        place = root / info.name / "VERSION" / "dataset_info.json"
        raise DataError(f"{info.name}: no prepared set, which would have {place}. {remedy}")
    try:
        builder = tfds.builder_from_directory(folder)
        formats = builder.info.available_file_formats()
        if tfds.core.FileFormat.ARRAY_RECORD not in formats:
            found = ", ".join(form.value for form in formats)
            raise DataError(f"{folder}: expected the format array_record, found {found}. {remedy}")

        def image_set(split: str) -> ImageSet:
            examples = list(builder.as_data_source(split))
            images = np.stack([example["image"] for example in examples])
            labels = np.array([example["label"] for example in examples])
            return _image_set(info, images, labels, f"{folder}, split {split}")

        names = builder.info.features["label"].names
        return _data_set(info, image_set("train"), image_set("test"), names, folder)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder}: {str(error).rstrip('.')}. {remedy}") from error
