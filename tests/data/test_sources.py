"""Data sources: what is written in each published format is read back, and nothing else is."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mgnet_jax.data import sources
from mgnet_jax.data.sources import DataError, ImageSet

Write = Callable[[Path, ImageSet, ImageSet], None]


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MGNET_DATA", raising=False)


def some_images(name: str, count: int, seed: int) -> ImageSet:
    """Random images of the set's shape, with labels that include the first and the last class."""
    random = np.random.default_rng(seed)
    info = sources.SETS[name].info
    labels = np.concatenate(
        [[0, info.num_classes - 1], random.integers(info.num_classes, size=count)]
    )
    images = random.integers(0, 256, (count, *info.image_shape), np.uint8)
    return ImageSet(images, labels[:count].astype(np.int32))


def planar(images: np.ndarray) -> np.ndarray:
    """CIFAR's order of bytes, written out: all of red by rows, then green, then blue."""
    return np.stack([np.concatenate([i[:, :, c].ravel() for c in range(3)]) for i in images])


def write_mnist(folder: Path, train: ImageSet, test: ImageSet) -> None:
    for part, data in (("train", train), ("t10k", test)):
        header = struct.pack(">4i", 2051, len(data), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + data.images.tobytes())
        header = struct.pack(">2i", 2049, len(data))
        labels = data.labels.astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels)


def write_mnist_dotted(folder: Path, train: ImageSet, test: ImageSet) -> None:
    write_mnist(folder, train, test)
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))


def write_mnist_gzipped(folder: Path, train: ImageSet, test: ImageSet) -> None:
    write_mnist(folder, train, test)
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def batches(train: ImageSet) -> list[ImageSet]:
    """Five parts of unequal size, in order."""
    cuts = [1, 2, 4, 5]
    return [
        ImageSet(*parts)
        for parts in zip(np.split(train.images, cuts), np.split(train.labels, cuts), strict=True)
    ]


CIFAR10_NAMES = tuple(f"kind_{number}" for number in range(10))
CIFAR100_NAMES = tuple(f"thing_{number}" for number in range(100))


def write_cifar10_binary(folder: Path, train: ImageSet, test: ImageSet) -> None:
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_NAMES) + "\n\n")
    for number, data in enumerate([*batches(train), test], 1):
        file = f"data_batch_{number}.bin" if number < 6 else "test_batch.bin"
        rows = np.column_stack([data.labels, planar(data.images)]).astype(np.uint8)
        (folder / file).write_bytes(rows.tobytes())


def write_cifar100_binary(folder: Path, train: ImageSet, test: ImageSet) -> None:
    (folder / "fine_label_names.txt").write_text("\n".join(CIFAR100_NAMES) + "\n")
    for file, data in (("train.bin", train), ("test.bin", test)):
        coarse = data.labels // 5
        rows = np.column_stack([coarse, data.labels, planar(data.images)]).astype(np.uint8)
        (folder / file).write_bytes(rows.tobytes())


class Python2Pickler(pickle._Pickler):
    """Pickles bytes as Python 2 pickled its str, as in the files that are published."""

    def save_bytes(self: Any, text: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch: ClassVar[dict[Any, Any]] = {**pickle._Pickler.dispatch, bytes: save_bytes}


def python2_pickle(content: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def write_cifar10_python(
    folder: Path,
    train: ImageSet,
    test: ImageSet,
    dump: Callable[[Any], bytes] = python2_pickle,
) -> None:
    (folder / "batches.meta").write_bytes(
        dump({b"label_names": [name.encode() for name in CIFAR10_NAMES], b"num_vis": 3072})
    )
    for number, data in enumerate([*batches(train), test], 1):
        content = {b"batch_label": b"one of them", b"labels": data.labels.tolist()}
        content[b"data"] = planar(data.images)
        file = f"data_batch_{number}" if number < 6 else "test_batch"
        (folder / file).write_bytes(dump(content))


def write_cifar100_python(folder: Path, train: ImageSet, test: ImageSet) -> None:
    names = {b"coarse_label_names": [b"a", b"b"]}
    names[b"fine_label_names"] = [name.encode() for name in CIFAR100_NAMES]
    (folder / "meta").write_bytes(python2_pickle(names))
    for file, data in (("train", train), ("test", test)):
        content = {b"coarse_labels": (data.labels // 5).tolist(), b"data": planar(data.images)}
        content[b"fine_labels"] = data.labels.tolist()
        (folder / file).write_bytes(python2_pickle(content))


NUMERALS = tuple("0123456789")
FORMS: list[tuple[str, Write, tuple[str, ...], list[str]]] = [
    ("mnist", write_mnist, NUMERALS, ["mnist", "MNIST/raw"]),
    ("mnist", write_mnist_dotted, NUMERALS, []),
    ("mnist", write_mnist_gzipped, NUMERALS, []),
    (
        "cifar10",
        write_cifar10_binary,
        CIFAR10_NAMES,
        ["cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"],
    ),
    (
        "cifar10",
        write_cifar10_python,
        CIFAR10_NAMES,
        ["cifar10", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"],
    ),
    (
        "cifar100",
        write_cifar100_binary,
        CIFAR100_NAMES,
        ["cifar100", "cifar-100-binary", "cifar100/cifar-100-binary"],
    ),
    (
        "cifar100",
        write_cifar100_python,
        CIFAR100_NAMES,
        ["cifar100", "cifar-100-python", "cifar100/cifar-100-python"],
    ),
]
PLACES = [
    pytest.param(name, write, names, below, id=f"{write.__name__}-{below or 'itself'}")
    for name, write, names, folders in FORMS
    for below in ["", *folders]
]


def same(read: ImageSet, written: ImageSet) -> bool:
    assert read.images.dtype == np.uint8
    assert read.labels.dtype == np.int32
    return np.array_equal(read.images, written.images) and np.array_equal(
        read.labels, written.labels
    )


@pytest.mark.parametrize(("name", "write", "names", "below"), PLACES)
def test_what_is_written_is_read(
    name: str, write: Write, names: tuple[str, ...], below: str, tmp_path: Path
) -> None:
    train, test = some_images(name, 7, seed=0), some_images(name, 3, seed=1)
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, train, test)
    data = sources.load(name, str(tmp_path))
    assert same(data.train, train)
    assert same(data.test, test)
    assert (len(data.train), len(data.test)) == (7, 3)
    assert data.class_names == names
    assert data.info is sources.SETS[name].info


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_python_3_are_read(protocol: int, tmp_path: Path) -> None:
    train, test = some_images("cifar10", 7, seed=0), some_images("cifar10", 3, seed=1)
    write_cifar10_python(tmp_path, train, test, lambda c: pickle.dumps(c, protocol))
    data = sources.load("cifar10", str(tmp_path))
    assert same(data.train, train)
    assert same(data.test, test)


def test_both_forms_of_cifar_give_red_green_and_blue_by_rows(tmp_path: Path) -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 0, 1], image[0, 1, 0] = (255, 0, 7), (1, 2, 3)
    sample = ImageSet(np.repeat(image, 7, axis=0), np.arange(7, dtype=np.int32))
    for write, file, start in (
        (write_cifar100_binary, "train.bin", 2),
        (write_cifar100_python, "train", None),
    ):
        folder = tmp_path / file
        folder.mkdir()
        write(folder, sample, sample)
        if start is not None:  # the second pixel of the red plane, and its neighbours
            assert list((folder / file).read_bytes()[start : start + 3]) == [0, 255, 0]
        read = sources.load("cifar100", str(folder)).train.images[0]
        assert read[0, 1].tolist() == [255, 0, 7]
        assert read[1, 0].tolist() == [1, 2, 3]
        assert read.sum() == 268


def test_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, folder in enumerate(("given", "variable", "home/below")):
        (tmp_path / folder).mkdir(parents=True)
        sample = some_images("mnist", 2, seed=number)
        write_mnist(tmp_path / folder, sample, sample)

    def seed_of(directory: str | None) -> int:
        data = sources.load("mnist", directory)
        (seed,) = [n for n in range(3) if same(data.train, some_images("mnist", 2, seed=n))]
        return seed

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MGNET_DATA", str(tmp_path / "variable"))
    assert seed_of(str(tmp_path / "given")) == 0
    assert seed_of(None) == 1
    assert seed_of("") == 1
    assert seed_of("~/below") == 2
    monkeypatch.setenv("MGNET_DATA", "~/below")
    assert seed_of(None) == 2


URLS = {
    "mnist": ["https://yann.lecun.com/exdb/mnist", "https://storage.googleapis.com/cvdf-datasets"],
    "cifar10": ["https://www.cs.toronto.edu/~kriz/cifar.html"],
    "cifar100": ["https://www.cs.toronto.edu/~kriz/cifar.html"],
}
REMEDY = ["--config.data.dir", "MGNET_DATA"]
FILES = {
    "mnist": ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    "cifar10": ["data_batch_5.bin", "batches.meta.txt", "test_batch,"],
    "cifar100": ["train.bin", "fine_label_names.txt", "meta"],
}


def message(name: str, directory: str | None = None, source: str = "files") -> str:
    with pytest.raises(DataError) as caught:
        sources.load(name, directory, source)
    return str(caught.value)


@pytest.mark.parametrize("name", list(FILES))
def test_files_that_are_not_there_are_named_with_the_remedy(name: str, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for text, places in (
        (message(name), []),
        (message(name, str(absent)), [f"{absent} is not a folder"]),
        (message(name, str(tmp_path)), [f"{tmp_path},", str(tmp_path / name)]),
    ):
        for part in [name, *FILES[name], *places, *REMEDY, *URLS[name]]:
            assert part in text


@pytest.mark.parametrize(
    ("name", "write", "file"),
    [
        ("mnist", write_mnist_gzipped, "t10k-labels-idx1-ubyte.gz"),
        ("cifar10", write_cifar10_binary, "data_batch_3.bin"),
        ("cifar10", write_cifar10_binary, "batches.meta.txt"),
        ("cifar10", write_cifar10_python, "test_batch"),
        ("cifar100", write_cifar100_python, "meta"),
    ],
)
def test_a_file_missing_from_an_archive_is_the_one_named(
    name: str, write: Write, file: str, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    write(folder, some_images(name, 7, seed=0), some_images(name, 3, seed=1))
    (folder / file).unlink()
    text = message(name, str(tmp_path))
    assert f"{file.removesuffix('.gz')} missing from {folder}." in text
    for part in [*REMEDY, *URLS[name]]:
        assert part in text


def test_a_complete_archive_is_read_beside_an_incomplete_one(tmp_path: Path) -> None:
    train, test = some_images("cifar10", 7, seed=0), some_images("cifar10", 3, seed=1)
    write_cifar10_binary(tmp_path, some_images("cifar10", 7, seed=2), test)
    (tmp_path / "data_batch_1.bin").unlink()
    write_cifar10_python(tmp_path, train, test)
    assert same(sources.load("cifar10", str(tmp_path)).train, train)


def idx(magic: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">{1 + len(shape)}i", magic, *shape) + content


ROWS, LABELS = np.zeros((2, 3072), np.uint8), [0, 1]
TOO_BIG = bytes([10]) + bytes(3072)
MALFORMED = [
    (write_mnist, "train-images-idx3-ubyte", b"", "empty file"),
    (write_mnist, "train-images-idx3-ubyte", idx(2049, (7,), bytes(7)), "00 00 08 01"),
    (write_mnist, "train-images-idx3-ubyte", idx(2051, (7,), b""), "header of 16 bytes, found 8"),
    (write_mnist, "train-images-idx3-ubyte", idx(2051, (7, 28, 28), bytes(99)), "5504 bytes"),
    (write_mnist, "train-images-idx3-ubyte", idx(2051, (1, 28, 28), bytes(785)), "800 bytes"),
    (write_mnist, "train-images-idx3-ubyte", idx(2051, (7, 27, 29), bytes(5481)), "(27, 29, 1)"),
    (write_mnist, "train-images-idx3-ubyte", idx(2051, (0, 28, 28), b""), "at least one image"),
    (write_mnist, "train-labels-idx1-ubyte", idx(2049, (7,), bytes(6)), "15 bytes"),
    (write_mnist, "train-labels-idx1-ubyte", idx(2049, (6,), bytes(6)), "7 images"),
    (write_mnist, "t10k-labels-idx1-ubyte", idx(2049, (3,), bytes((0, 10, 0))), "10 for image 1"),
    (write_mnist_gzipped, "t10k-images-idx3-ubyte.gz", b"not gzipped", "gzipped"),
    (
        write_mnist_gzipped,
        "t10k-images-idx3-ubyte.gz",
        gzip.compress(bytes(999), mtime=0)[:-9],
        "end",
    ),
    (write_mnist_gzipped, "t10k-images-idx3-ubyte.gz", b"\x1f\x8b\x08" + bytes(20), "Error"),
    (write_cifar10_binary, "data_batch_2.bin", bytes(3072), "records of 3073 bytes, found 3072"),
    (write_cifar10_binary, "data_batch_2.bin", b"", "at least one image"),
    (write_cifar10_binary, "test_batch.bin", bytes(3073) + TOO_BIG, "found 10 for image 1"),
    (write_cifar10_binary, "batches.meta.txt", b"cat\ndog\n", "10 class names, found 2"),
    (write_cifar100_binary, "test.bin", bytes(3073), "records of 3074 bytes"),
    (write_cifar10_python, "test_batch", b"", "pickle"),
    (write_cifar10_python, "test_batch", b"\xff\xfe not a pickle", "pickle"),
    (write_cifar10_python, "test_batch", pickle.dumps(["data"]), "dictionary, found list"),
    (write_cifar10_python, "test_batch", pickle.dumps({b"data": ROWS}), "entry labels"),
    (write_cifar10_python, "batches.meta", pickle.dumps({b"label_names": [1]}), "list of names"),
    (write_cifar10_python, "batches.meta", pickle.dumps({b"label_names": [b"a"]}), "found 1"),
]
for entry, wrong, words in [
    (b"data", ROWS.astype(np.int8), "int8 (2, 3072)"),
    (b"data", ROWS[:, :-1], "uint8 (2, 3071)"),
    (b"data", ROWS[0], "uint8 (3072,)"),
    (b"data", ROWS[:1], "each of the 1 images"),
    (b"data", ROWS.tolist(), "found list"),
    (b"labels", [0, 10], "10 for image 1"),
    (b"labels", [0, -1], "-1 for image 1"),
    (b"labels", [0, 10**30], f"{10**30} for image 1"),
    (b"labels", [0, 0.5], "whole numbers"),
    (b"labels", b"\0\1", "whole numbers"),
]:
    content = pickle.dumps({b"data": ROWS, b"labels": LABELS} | {entry: wrong})
    MALFORMED.append((write_cifar10_python, "data_batch_4", content, words))


@pytest.mark.parametrize(("write", "file", "content", "words"), MALFORMED)
def test_a_malformed_file_is_named_with_what_was_found(
    write: Write, file: str, content: bytes, words: str, tmp_path: Path
) -> None:
    name = write.__name__.split("_")[1]
    write(tmp_path, some_images(name, 7, seed=0), some_images(name, 3, seed=1))
    (tmp_path / file).write_bytes(content)
    text = message(name, str(tmp_path))
    assert text.startswith(f"{tmp_path / file}: expected ")
    assert words in text


class Call:
    """Unpickles as the result of a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("refused", ["system", "eval", "exec", "numpy", "method"])
def test_a_pickle_that_calls_anything_is_refused(
    refused: str, file: str, protocol: int, tmp_path: Path
) -> None:
    write_cifar10_python(tmp_path, some_images("cifar10", 7, 0), some_images("cifar10", 3, 1))
    harm = tmp_path / "harm"
    code = f"__import__('pathlib').Path({str(harm)!r}).touch()"
    attack, found = {
        "system": (Call(os.system, f"touch {harm}"), f"{os.system.__module__}.system"),
        "eval": (Call(eval, code), "eval"),
        "exec": (Call(exec, code), "exec"),
        "numpy": (Call(np.savetxt, str(harm), [1.0]), "savetxt"),
        "method": (Call(np.ndarray.tofile, np.zeros(1), str(harm)), "getattr"),
    }[refused]
    content = pickle.dumps({b"data": attack, b"labels": [0], b"label_names": []}, protocol)
    (tmp_path / file).write_bytes(content)
    text = message("cifar10", str(tmp_path))
    assert text.startswith(str(tmp_path / file))
    assert found in text
    assert "refused" in text
    assert not harm.exists()
    pickle.loads(content)  # the attack is a real one: without the restriction it does harm
    assert harm.exists()


def test_digits_are_those_of_scikit_learn_and_every_fifth_is_a_test_image() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    data = sources.load("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.class_names == NUMERALS
    images, labels = np.empty((1797, 8, 8, 1), np.uint8), np.empty(1797, int)
    test = np.arange(1797) % 5 == 0
    for part, where in ((data.train, ~test), (data.test, test)):
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert (part.images.min(), part.images.max()) == (0, 255)
        assert set(part.labels) == set(range(10))
        images[where], labels[where] = part.images, part.labels
    np.testing.assert_array_equal(labels, bunch.target)
    assert np.abs(images[..., 0] / 255 - bunch.images / 16).max() <= 0.5 / 255
    assert not {i.tobytes() for i in data.test.images} & {i.tobytes() for i in data.train.images}


def test_info_of_digits_is_what_the_training_images_give() -> None:
    data = sources.load("digits")
    pixels = data.train.images / 255
    assert data.info.mean == pytest.approx((pixels.mean(),), abs=5.1e-5)
    assert data.info.std == pytest.approx((pixels.std(),), abs=5.1e-5)
    assert (len(data.train), len(data.test)) == (data.info.train_size, data.info.test_size)


def test_info_has_a_mean_and_a_deviation_for_every_channel() -> None:
    assert list(sources.SETS)[:4] == ["digits", "mnist", "cifar10", "cifar100"]
    for name, source in sources.SETS.items():
        info = source.info
        assert info.name == name
        assert len(info.mean) == len(info.std) == info.image_shape[2]


@pytest.mark.parametrize(
    ("name", "source", "parts"),
    [
        ("cifar", "files", ["data set 'cifar'", "mean 'cifar10'", "digits, mnist, cifar10"]),
        ("MNIST", "files", ["data set 'MNIST'", "digits, mnist"]),
        ("mnist", "tfd", ["source 'tfd'", "mean 'tfds'", "files, tfds"]),
        ("digits", "tfds", ["scikit-learn", "'files'"]),
    ],
)
def test_an_unknown_word_is_answered_with_the_known_ones(
    name: str, source: str, parts: list[str]
) -> None:
    text = message(name, source=source)
    for part in parts:
        assert part in text


def prepare(
    name: str,
    folder: Path,
    splits: dict[str, ImageSet],
    version: str = "3.0.1",
    file_format: str = "array_record",
    key: str = "image",
) -> Path:
    """Prepares a set as TensorFlow Datasets does, and returns its folder."""
    import tensorflow_datasets as tfds
    from PIL import Image

    shape = next(iter(splits.values())).images.shape[1:]
    names = CIFAR10_NAMES if name == "cifar10" else NUMERALS

    def info(self: Any) -> Any:
        features = {key: tfds.features.Image(shape=shape)}
        features["label"] = tfds.features.ClassLabel(names=names)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def examples(self: Any, data: ImageSet) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(image.squeeze()).save(file, "png")
            file.seek(0)
            yield number, {key: file, "label": int(label)}

    def split_generators(self: Any, _: Any) -> dict[str, Any]:
        return {split: examples(self, data) for split, data in splits.items()}

    members = {
        "__module__": __name__,
        "VERSION": tfds.core.Version(version),
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": examples,
    }
    builder = type(
        name.title(), (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True
    )
    tfds.disable_progress_bar()
    builder(data_dir=folder, file_format=file_format).download_and_prepare()
    return folder / name / version


def both(name: str, seed: int = 0) -> dict[str, ImageSet]:
    return {"train": some_images(name, 7, seed), "test": some_images(name, 3, seed + 1)}


def in_order(data: ImageSet) -> list[tuple[bytes, int]]:
    """Pairs of image and label, sorted, as preparing shuffles them."""
    return sorted((i.tobytes(), int(n)) for i, n in zip(data.images, data.labels, strict=True))


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_prepared_set_is_read_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = both(name)
    prepare(name, tmp_path, both(name, seed=5), version="3.0.1")
    folder = prepare(name, tmp_path, splits, version="3.0.10")
    monkeypatch.setenv("MGNET_DATA", str(tmp_path))
    for directory in (str(tmp_path), str(folder), None):
        data = sources.load(name, directory, "tfds")
        for read, written in ((data.train, splits["train"]), (data.test, splits["test"])):
            assert read.images.dtype == np.uint8
            assert read.labels.dtype == np.int32
            assert in_order(read) == in_order(written)
        assert data.class_names == (CIFAR10_NAMES if name == "cifar10" else NUMERALS)
        assert data.info is sources.SETS[name].info


def test_a_prepared_set_is_read_without_tensorflow_and_without_jax(tmp_path: Path) -> None:
    prepare("mnist", tmp_path, both("mnist"))
    code = f"""
import sys, types
package = types.ModuleType("mgnet_jax")  # the package without what its own __init__ imports
package.__path__ = {list(sys.modules["mgnet_jax"].__path__)!r}
sys.modules["mgnet_jax"] = package
from mgnet_jax.data import sources
assert "tensorflow_datasets" not in sys.modules
assert len(sources.load("digits").test) == 360
assert "sklearn" not in sys.modules
assert len(sources.load("mnist", {str(tmp_path)!r}, "tfds").train) == 7
assert not {{"jax", "tensorflow"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


PREPARE = ["tfds.builder('mnist', data_dir=FOLDER, file_format='array_record')", *REMEDY]


def test_a_set_that_is_not_prepared_is_answered_with_how_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))
    for directory, place in ((str(tmp_path), tmp_path), (None, tmp_path / "default")):
        text = message("mnist", directory, "tfds")
        for part in [*PREPARE, str(place / "mnist")]:
            assert part in text


def test_a_set_in_another_format_is_answered_with_how_to(tmp_path: Path) -> None:
    folder = prepare("mnist", tmp_path, both("mnist"))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    text = message("mnist", str(tmp_path), "tfds")
    for part in [*PREPARE, str(folder), "found tfrecord"]:
        assert part in text


def lose_a_file(folder: Path) -> None:
    next(folder.glob("*test.array_record*")).unlink()


def cut_a_file(folder: Path) -> None:
    path = next(folder.glob("*train.array_record*"))
    path.write_bytes(path.read_bytes()[:-1000])


def empty_the_info(folder: Path) -> None:
    (folder / "dataset_info.json").write_text("")


def lose_the_features(folder: Path) -> None:
    (folder / "features.json").unlink()


@pytest.mark.parametrize("harm", [lose_a_file, cut_a_file, empty_the_info, lose_the_features])
def test_a_damaged_prepared_set_is_named(harm: Callable[[Path], None], tmp_path: Path) -> None:
    folder = prepare("mnist", tmp_path, both("mnist"))
    harm(folder)
    text = message("mnist", str(tmp_path), "tfds")
    for part in [*PREPARE, str(folder)]:
        assert part in text


def test_a_prepared_set_that_is_not_the_one_asked_for_is_named(tmp_path: Path) -> None:
    splits = both("mnist")
    only = prepare("mnist", tmp_path / "a", {"train": splits["train"]})
    assert "'test'" in message("mnist", str(only), "tfds")
    other = prepare("mnist", tmp_path / "b", splits, key="picture")
    assert "'image'" in message("mnist", str(other), "tfds")
    shape = prepare("cifar10", tmp_path / "c", both("cifar10"))
    text = message("mnist", str(shape), "tfds")
    assert f"{shape}, split train: expected uint8 images of shape (28, 28, 1), found " in text


def test_a_prepared_set_of_floating_point_images_is_refused(tmp_path: Path) -> None:
    planes = {part: np.zeros((2, 28, 28, 4), np.uint8) for part in ("train", "test")}
    labels = np.zeros(2, np.int32)
    folder = prepare("mnist", tmp_path, {part: ImageSet(i, labels) for part, i in planes.items()})
    features = folder / "features.json"  # four bytes are how a float is stored in an image
    text = features.read_text().replace('"uint8"', '"float32"').replace('"4"', '"1"')
    features.write_text(text)
    text = message("mnist", str(tmp_path), "tfds")
    assert "expected uint8 images of shape (28, 28, 1), found float32 (28, 28, 1)" in text
