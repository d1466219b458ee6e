"""ILSVRC2012 in its archives: small ones, made as the real ones are."""

import io
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from mgnet_jax.data.info import DataError, Listing, Photographs
from mgnet_jax.data.photographs import archives
from mgnet_jax.data.photographs.archives import (
    DEVKIT,
    TRAIN,
    VAL,
    Members,
    is_archives,
    list_source,
)

WNIDS = ["n02124075", "n01440764", "n15075141"]
"""By their number in ILSVRC2012, from 1; the labels are in the order of the names."""
LABELS = {"n01440764": 0, "n02124075": 1, "n15075141": 2}
TRUTH = [3, 1, 1, 2]


def photograph(number: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """A picture of one colour that tells its number."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (20 * number, 100, 50)).convert(mode).save(file, kind)
    return file.getvalue()


def archive(members: Sequence[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def inside(wnid: str) -> list[tuple[str, bytes]]:
    """The photographs of a class, not in order; one of them is CMYK, and one a PNG."""
    label = LABELS[wnid]
    contents = {
        9: photograph(label + 3),
        10: photograph(label + 6, mode="CMYK" if label == 1 else "RGB"),
        2: photograph(label, "PNG" if label == 2 else "JPEG"),
    }
    return [(f"{wnid}_{number}.JPEG", content) for number, content in contents.items()]


def train_archive(form: int = tarfile.USTAR_FORMAT) -> bytes:
    return archive([(f"{wnid}.tar", archive(inside(wnid), form)) for wnid in WNIDS], form)


def val_members() -> list[tuple[str, bytes]]:
    numbers = [4, 1, 3, 2]
    return [(f"ILSVRC2012_val_{number:08}.JPEG", photograph(number)) for number in numbers]


def meta(wnids: Sequence[str] = WNIDS) -> bytes:
    """The synsets as the devkit has them: those of the photographs, then those above them."""
    every = [*wnids, "n00001740", "n00001930"]
    fields = [
        *("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children"),
        *("wordnet_height", "num_train_images"),
    ]
    synsets = np.zeros((len(every), 1), [(name, object) for name in fields])
    for number, wnid in enumerate(every, 1):
        above = number > len(wnids)
        children = np.array([[1, 2]] if above else np.zeros((1, 0)), float)
        synsets[number - 1, 0] = (
            *(float(number), wnid, f"{wnid}, thing", "a thing", 2.0 * above, children),
            *(float(above), 0.0 if above else 3.0),
        )
    file = io.BytesIO()
    scipy.io.savemat(file, {"synsets": synsets})
    return file.getvalue()


def devkit(truth: Sequence[int] = TRUTH, content: bytes | None = None) -> bytes:
    text = "".join(f"{number}\n" for number in truth).encode()
    root = "ILSVRC2012_devkit_t12"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, part in (
            ("readme.txt", b"about"),
            ("data/ILSVRC2012_validation_ground_truth.txt", text),
            ("data/meta.mat", meta() if content is None else content),
        ):
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / TRAIN).write_bytes(train_archive())
    (tmp_path / VAL).write_bytes(archive(val_members()))
    (tmp_path / DEVKIT).write_bytes(devkit())
    return tmp_path


def check_train(train: Photographs, place: str) -> None:
    assert isinstance(train, Members)
    assert train.labels.dtype == np.int32
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    expected = [
        (wnid, name, content) for wnid in sorted(WNIDS) for name, content in sorted(inside(wnid))
    ]
    assert len(train) == 9
    for index, (wnid, name, content) in enumerate(expected):
        assert train.name(index) == f"{place}/{wnid}.tar/{name}"
        assert train.raw(index) == content
        jpeg, label = train[index]
        assert label == LABELS[wnid]
        assert Image.open(io.BytesIO(jpeg)).mode == "RGB"
        plain = name not in ("n02124075_10.JPEG", "n15075141_2.JPEG")
        assert (jpeg == content) == plain
        number = label + {"2.JPEG": 0, "9.JPEG": 3, "10.JPEG": 6}[name.split("_")[1]]
        red = np.asarray(Image.open(io.BytesIO(jpeg)))[..., 0].mean()
        assert red == pytest.approx(20 * number, abs=3)


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_photographs_are_read_where_they_are(form: int, folder: Path) -> None:
    (folder / TRAIN).write_bytes(train_archive(form))
    assert is_archives(folder)
    listing = list_source(folder, test_share=0.0)
    assert listing.class_names == tuple(sorted(WNIDS))
    check_train(listing.train, str(folder / TRAIN))
    test = listing.test
    assert test.labels is not None
    assert test.labels.tolist() == [2, 1, 1, 0]
    for index in range(4):
        assert test.name(index) == f"{folder / VAL}/ILSVRC2012_val_{index + 1:08}.JPEG"
        assert test[index] == (photograph(index + 1), test.labels[index])


def test_workers_and_threads_read_the_same(folder: Path) -> None:
    train = list_source(folder, 0.0).train
    check_train(pickle.loads(pickle.dumps(train)), str(folder / TRAIN))
    every = [train[index] for index in range(9)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(train.__getitem__, [*range(9)] * 20)) == every * 20
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert workers.map(train.__getitem__, range(9)) == every


def test_no_file_stays_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    listing = list_source(folder, 0.0)
    for index in range(4):
        listing.test[index]
    (folder / VAL).write_bytes(b"no archive")
    with pytest.raises(DataError):
        list_source(folder, 0.0)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["val", "validation"])
def test_the_test_split_may_be_unpacked(name: str, folder: Path) -> None:
    (folder / VAL).unlink()
    (folder / DEVKIT).unlink()
    for wnid in ("n15075141", "n02124075"):
        (folder / name / wnid).mkdir(parents=True)
        (folder / name / wnid / "1.JPEG").write_bytes(photograph(1))
    listing = list_source(folder, 0.0)
    check_train(listing.train, str(folder / TRAIN))
    assert listing.test.labels is not None
    assert listing.test.labels.tolist() == [1, 2]
    assert listing.test.name(1) == f"{folder}/{name}/n15075141/1.JPEG"


def test_folders_are_read_as_such_though_archives_are_left_beside_them(tmp_path: Path) -> None:
    assert not is_archives(tmp_path)
    (tmp_path / VAL).write_bytes(b"")
    assert is_archives(tmp_path)
    for name in ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert not is_archives(tmp_path)
    assert list_source(tmp_path, 0.0).class_names == ("a", "b")


def put(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(content((folder / name).read_bytes()))

    return harm


def lose(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def cut_class(raw: bytes) -> bytes:
    """An archive whose last class is cut, though the archive around it is whole."""
    parts = [(f"{wnid}.tar", archive(inside(wnid))) for wnid in WNIDS]
    parts[-1] = (parts[-1][0], parts[-1][1][:1200])
    return archive(parts)


def before_the_end(raw: bytes) -> bytes:
    """An archive cut in the header of its last member, or rather right before it."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return raw[: tar.getmembers()[-1].offset + 7]


URL = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
AGAIN = "download it again"
WRONG: list[tuple[Callable[[Path], None], str, list[str]]] = [
    (lose(TRAIN), "", [f"lacks {TRAIN} beside {VAL}", URL]),
    (lose(DEVKIT), "", [f"lacks {DEVKIT}, which tells the classes", URL]),
    (lose(VAL), "", [f"no test split beside {TRAIN}: neither {VAL} with {DEVKIT}", URL]),
    (put(TRAIN, lambda raw: b""), TRAIN, ["a whole archive, found: empty file", AGAIN]),
    (put(TRAIN, lambda raw: b"text" * 999), TRAIN, ["expected a whole archive, found: ", AGAIN]),
    (put(TRAIN, lambda raw: raw[:6000]), TRAIN, ["unexpected end of data", "6000 bytes", AGAIN]),
    (put(TRAIN, lambda raw: raw[:20_000]), TRAIN, ["end of data", "20000 bytes", AGAIN]),
    (put(TRAIN, cut_class), f"{TRAIN}/n15075141.tar", ["unexpected end of data", AGAIN]),
    (
        put(TRAIN, lambda raw: archive(inside(WNIDS[0]))),
        TRAIN,
        ["an archive for each class, named as n01440764.tar, found n02124075_10.JPEG"],
    ),
    (
        put(TRAIN, lambda raw: archive([("n01440764.tar", archive(inside(WNIDS[1])))])),
        TRAIN,
        ["an archive for each class", "found 1 of them"],
    ),
    (
        put(TRAIN, lambda raw: archive([(f"{wnid}.tar", archive([])) for wnid in WNIDS])),
        f"{TRAIN}/n01440764.tar",
        ["expected photographs, found none", AGAIN],
    ),
    (
        put(TRAIN, lambda raw: archive([(f"{w}.tar", archive(inside(w))) for w in WNIDS[:2]])),
        VAL,
        [f"of the class n15075141, of which {TRAIN} has none (1 such classes)"],
    ),
    (
        put(VAL, lambda raw: archive(val_members()[:1])),
        VAL,
        ["expected ILSVRC2012_val_00000001.JPEG, found ILSVRC2012_val_00000004.JPEG", AGAIN],
    ),
    (
        put(VAL, lambda raw: archive(val_members()[1:])),
        VAL,
        ["expected 4 photographs, the count of labels in ", DEVKIT, "found 3", AGAIN],
    ),
    (put(VAL, lambda raw: raw[:1000]), VAL, ["unexpected end of data", "1000 bytes", AGAIN]),
    (put(VAL, lambda raw: raw.rstrip(b"\0")), VAL, ["whole archive, found: ", AGAIN]),
    (put(VAL, before_the_end), VAL, ["expected a whole archive, found: no end mark", AGAIN]),
    (put(TRAIN, before_the_end), TRAIN, ["expected a whole archive, found: no end mark", AGAIN]),
    (put(DEVKIT, lambda raw: raw[:-40]), DEVKIT, ["expected a whole archive, found: ", AGAIN]),
    (put(DEVKIT, lambda raw: b"text"), DEVKIT, ["expected a whole archive, found: ", AGAIN]),
    (
        put(DEVKIT, lambda raw: devkit(content=b"text")),
        DEVKIT,
        ["their WordNet ids in data/meta.mat, found "],
    ),
    (
        put(DEVKIT, lambda raw: devkit([3, 1, 1, 9])),
        DEVKIT,
        ["the numbers of classes in data/ILSVRC2012_validation_ground_truth.txt", "KeyError: 9"],
    ),
]


@pytest.mark.parametrize(("harm", "place", "words"), WRONG)
def test_what_is_missing_cut_or_wrong_is_named(
    harm: Callable[[Path], None], place: str, words: list[str], folder: Path
) -> None:
    harm(folder)
    with pytest.raises(DataError) as caught:
        list_source(folder, 0.0)
    assert str(caught.value).startswith(str(folder / place))
    for word in words:
        assert word in str(caught.value)


def test_a_devkit_without_its_files_is_named(folder: Path) -> None:
    with tarfile.open(folder / DEVKIT, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    with pytest.raises(DataError, match="expected a file data/ILSVRC2012_validation_ground_truth"):
        list_source(folder, 0.0)


def test_an_archive_that_changes_after_it_was_listed_is_named(folder: Path) -> None:
    listing: Listing = archives.list_archives(folder)
    (folder / VAL).write_bytes((folder / VAL).read_bytes()[:600])
    with pytest.raises(DataError) as caught:
        listing.test[3]
    assert str(caught.value) == f"{folder / VAL} was cut since it was listed: {AGAIN}"
    (folder / VAL).unlink()
    with pytest.raises(DataError, match=r"val_00000004\.JPEG: No such file"):
        listing.test[3]


def test_a_damaged_photograph_is_named_with_the_remedy(folder: Path) -> None:
    members = [(name, b"text" if "00000002" in name else raw) for name, raw in val_members()]
    (folder / VAL).write_bytes(archive(members))
    listing = list_source(folder, 0.0)
    with pytest.raises(DataError) as caught:
        listing.test[1]
    text = str(caught.value)
    assert text.startswith(f"{folder / VAL}/ILSVRC2012_val_00000002.JPEG: no image that Pillow")
    assert "--mode=prepare --on_bad=skip" in text
