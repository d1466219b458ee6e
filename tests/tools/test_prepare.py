"""--mode=prepare: from class folders to a set that is whole, whatever ends a command meanwhile."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import command
from photos import cut, make_folders, photograph
from PIL import Image

from mgnet_jax.data import sets
from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs.folders import list_folders
from mgnet_jax.data.photographs.making import Making
from mgnet_jax.data.photographs.prepared import find, read_listing
from mgnet_jax.tools.prepare import Stopped, prepare

DRIVER = """
import sys
from pathlib import Path
if __name__ == "__main__":
    from mgnet_jax.tools.prepare import prepare
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), processes=2, shard_size=4)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_set_is_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = make_folders(tmp_path / "My Photos-2"), tmp_path / "sets"
    png = root / "train" / "b" / "b2.jpg"
    png.write_bytes(photograph(6, form="PNG"))
    done = prepare(root, out, processes=1, shard_size=5)
    assert done == out / "my_photos_2" / "1.0.0" == find(out, ("imagenet2012",))
    assert [path.name for path in done.parent.iterdir() if path.name != ".lock"] == ["1.0.0"]
    listing, given = read_listing(done), list_folders(root, 0.1)
    assert listing.class_names == given.class_names == ("a", "b", "c")
    for made, source in ((listing.train, given.train), (listing.test, given.test)):
        assert [made[i] for i in range(len(made))] == [source[i] for i in range(len(source))]
        assert [f"{source.root}/{made.name(i)}" for i in range(len(made))] == [  # type: ignore
            source.name(i) for i in range(len(source))
        ]
    text, error = capsys.readouterr()
    assert error == ""
    assert re.search(r"^ 0/15 images .*\n(.*\n)*15/15 images +\d+ images/s  left 0:00$", text, re.M)
    assert "3 classes; train 12 images, validation 3 images; " in text
    assert "bytes in 4 shards\nmended 1, see mended.txt: PNG 1\n" in text
    assert "train with it" not in text  # that is the command's to say, which ends there

    before = files(done)
    assert prepare(root, out, shard_size=5) == done
    assert f"{done} is whole: every file is as it was written\n" in capsys.readouterr().out
    cut(done / "my_photos_2-train.array_record-00001-of-00003")
    assert prepare(root, out, processes=1, shard_size=5) == done
    text = capsys.readouterr().out
    assert "-train.array_record-00001-of-00003: it is not as it was written\n" in text
    assert "3 of 4 shards are whole already\n" in text
    assert files(done) == before


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("imagenet2012", "--config=configs/imagenet.py"),
        ("ours", "--config=imagenet:photographs --config.data.source=tfds"),
    ],
)
def test_the_end_says_how_to_train_with_this_set_among_others(
    name: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path / "imagenet2012", tmp_path / "ours"):
        (folder / "9.0.0").mkdir(parents=True)
        (folder / "9.0.0" / "dataset_info.json").touch()
    source = make_folders(tmp_path / "in")
    arguments = (f"--source={source}", f"--out={tmp_path}", f"--name={name}", "--processes=1")
    assert command(tmp_path, "--mode=prepare", *arguments) == 0
    folder = tmp_path / name
    end = f"train with it: python -m mgnet_jax.main {recipe} --config.data.dir={folder}\n"
    assert capsys.readouterr().out.endswith(end)
    assert find(folder, ("imagenet2012",)) == folder / "9.0.0"


def test_it_is_an_ordinary_set_of_tensorflow_datasets(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    done = prepare(make_folders(tmp_path / "in"), tmp_path, "ours", processes=1, shard_size=5)
    builder = tfds.builder_from_directory(done)
    assert (builder.name, str(builder.version)) == ("ours", "1.0.0")
    assert builder.info.features["label"].names == ["a", "b", "c"]
    assert {name: s.num_examples for name, s in builder.info.splits.items()} == {
        "train": 12,
        "validation": 3,
    }
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    images = [(e["file_name"].decode(), int(e["label"])) for e in source]
    assert images == [(f"{c}/{c}{i}.jpg", n) for n, c in enumerate("abc") for i in range(4)]
    for example in source:
        assert Image.open(io.BytesIO(example["image"])).height == 24


def children(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(stat.parent.name))
        except OSError:  # ended meanwhile
            pass
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of some processes that run."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


def eventually(what: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_a_command_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in", each=100)
    whole = prepare(root, tmp_path / "whole", processes=2, shard_size=4)
    work = Making(tmp_path / "out" / "in").work
    (tmp_path / "driver.py").write_text(DRIVER)
    arguments = [sys.executable, str(tmp_path / "driver.py"), str(root), str(tmp_path / "out")]
    for number, code, words in (
        (signal.SIGKILL, -9, ""),
        (signal.SIGTERM, 1, "Stopped: stopped; shards that are whole are kept"),
        (signal.SIGINT, 1, "Stopped: stopped; shards that are whole are kept"),
    ):
        before = len(list(work.glob("in-*")))
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, start_new_session=True)
        eventually(lambda before=before: len(list(work.glob("in-*"))) > before + 2)
        workers = children(process.pid)
        assert len(workers) >= 2
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code and words in error.decode()
        eventually(lambda workers=workers: not alive(workers), 10)
        assert not work.with_name("1.0.0").exists()
    done = prepare(root, tmp_path / "out", processes=1, shard_size=4)
    assert files(done) == files(whole)


def test_the_command_keeps_jax_out_of_its_workers(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, pathlib, sys\n"
        f"seen = pathlib.Path({str(tmp_path)!r}, f'seen-{{os.getpid()}}')\n"
        "names = {'jax', 'tensorflow', 'array_record'}\n"
        "atexit.register(lambda: seen.write_text(' '.join(sorted(names & {*sys.modules}))))\n"
    )
    paths = (str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    root = make_folders(tmp_path / "in", each=1)
    subprocess.run(
        [
            *(sys.executable, "-m", "mgnet_jax.main", "--mode=prepare", "--processes=2"),
            *(f"--source={root}", f"--out={tmp_path / 'out'}"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    seen = sorted(path.read_text() for path in tmp_path.glob("seen-*"))
    assert seen.count("array_record") == 2  # the workers
    assert "jax" in "".join(seen)  # the command itself
    assert not [text for text in seen if "tensorflow" in text]


def test_what_cannot_be_read_is_listed_and_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make_folders(tmp_path / "in", each=24), tmp_path / "out"
    for i in range(22):
        (root / "train" / "b" / f"b{i}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    arguments = (f"--source={root}", f"--out={out}", "--name=odd", "--processes=1")
    assert command(tmp_path, "--mode=prepare", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 22 of 75 photographs cannot be read:\n")
    assert error.count(f"\n  {root}/train/b/b") == 20 and "\n  and 2 more\n" in error
    unreadable = out / "odd" / ".1.0.0.incomplete" / "unreadable.txt"
    assert f"All are listed in {unreadable}. 1 of 2 shards wait for them" in error
    assert "--on_bad=skip" in error and "Traceback" not in error
    assert unreadable.read_text().count("\n") == 22
    assert not (out / "odd" / "1.0.0").exists()

    for i in range(21):  # mended
        (root / "train" / "b" / f"b{i}.jpg").write_bytes(photograph(i))
    assert command(tmp_path, "--mode=prepare", *arguments) == 2
    captured = capsys.readouterr()
    assert "1 of 2 shards are whole already" in captured.out
    assert f"{root}/train/b/b21.jpg: " in captured.err
    assert command(tmp_path, "--mode=prepare", *arguments, "--on_bad=skip") == 0
    assert "left out 1 that cannot be read, see unreadable.txt" in capsys.readouterr().out
    train = read_listing(out / "odd" / "1.0.0").train
    assert len(train) == 71
    assert train.labels is not None and train.labels.tolist() == [0] * 24 + [1] * 23 + [2] * 24

    (out / "odd" / "1.0.0").rename(unreadable.parent)  # as if stopped before the end
    assert command(tmp_path, "--mode=prepare", *arguments) == 2
    assert "error: 1 of 75 photographs cannot be read:\n" in capsys.readouterr().err
    (root / "train" / "b" / "b21.jpg").write_bytes(photograph(21))
    assert command(tmp_path, "--mode=prepare", *arguments) == 0
    assert "left out" not in capsys.readouterr().out
    assert len(read_listing(out / "odd" / "1.0.0").train) == 72
    assert not (out / "odd" / "1.0.0" / "unreadable.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source=in",), "--mode=prepare needs --source=FOLDER and --out=FOLDER"),
        (("--source=in", "--out=out", "--on_bad=keep"), "--on_bad=keep must be stop or skip"),
        (("--source=in", "--out=out", "--processes=-1"), "--processes=-1 must be 0 or more"),
        (("--source=in", "--out=out", "--name=My set"), "--name=My set must be small letters"),
        (
            ("--source=in", "--out=out", "--config.data.test_share=0.2"),
            "--mode=prepare takes no configuration: --config.data.test_share would do nothing, "
            "leave it out; its flags are --source, --out, --name, --test_share",
        ),
        (("--source=in", "--out=out", "--config=imagenet"), "no configuration: --config would"),
        (("--source=nothing", "--out=out"), "nothing is not a folder"),
        (("--source=in/train", "--out=in/train/sets"), "must not lie among the classes in"),
        (("--source=in", "--out=in/val/sets"), "must not lie among the classes in in/val"),
        (
            ("--source=in", "--out=in/a_file"),
            "--out=in/a_file: in/a_file is a file, and must be a folder or nothing",
        ),
        (("--source=in", "--out=in", "--name=a_file"), "--out=in: in/a_file is a file"),
    ],
)
def test_mistakes_are_messages(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folders(Path("in"))
    Path("in", "a_file").touch()
    assert command(tmp_path / "run", "--mode=prepare", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_share_that_is_not_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folders(tmp_path / "in")
    prepare(root, tmp_path / "a", test_share=0.3, processes=1)
    words = f"--test_share=0.3 is not used: the test split is that of {root / 'val'}\n"
    assert words in capsys.readouterr().out
    prepare(root, tmp_path / "b", processes=1)
    prepare(root / "train", tmp_path / "c", test_share=0.3, processes=1)
    assert "not used" not in capsys.readouterr().out


def test_a_network_is_scored_where_the_training_shards_are_not(tmp_path: Path) -> None:
    done = prepare(make_folders(tmp_path / "in"), tmp_path / "sets", processes=1)
    next(done.glob("*-train.array_record*")).unlink()
    data = {"name": "photographs", "source": "tfds", "dir": str(done.parent)}
    info = sets.SETS["photographs"].info
    test = sets.load_test(data, info, ("a", "b", "c"))
    assert (test.train, len(test.test), test.class_names) == (None, 3, ("a", "b", "c"))
    with pytest.raises(DataError, match="lacks 1 shards"):
        sets.load_test(data, info, ())


def test_two_commands_do_not_mix(tmp_path: Path) -> None:
    root = make_folders(tmp_path / "in")
    with (
        Making(tmp_path / "out" / "in").locked(),
        pytest.raises(DataError, match="is being prepared by another command"),
    ):
        prepare(root, tmp_path / "out")


def test_stopping_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        monkeypatch.setattr(
            "mgnet_jax.data.photographs.archives.list_source",
            lambda *_, number=number: os.kill(os.getpid(), number),
        )
        with pytest.raises(Stopped, match=r"stopped; .*the same command goes on") as error:
            prepare(tmp_path, tmp_path / "out")
        assert error.value.exit_code == 128 + number
        assert signal.getsignal(signal.SIGTERM) is before
