"""What a run is cannot be lost or exchanged without being noticed: it is refused, or mended."""

import dataclasses
import hashlib
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack.conftest import EVERY
from attack.runs import assert_as_uninterrupted, files
from commands import command

from mgnet_jax.training import job as training_job
from mgnet_jax.training import loop, manifest

RECORDS = ("--config.log.every_steps=5",)
Said = Callable[..., tuple[int, str]]


@pytest.fixture
def workdir(broken_off: Path, tmp_path: Path) -> Path:
    return shutil.copytree(broken_off, tmp_path / "run")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The exit code of a command, and what it said."""

    def run(workdir: Path, *arguments: str) -> tuple[int, str]:
        train = () if any("--mode" in argument for argument in arguments) else EVERY
        code = command(workdir, *train, *arguments)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with some more records."""
    workdir = tmp_path_factory.mktemp("recorded") / "run"
    assert command(workdir, *EVERY, *RECORDS) == 0
    return workdir


@pytest.fixture
def only_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends, with exit code 130, where it would begin."""

    def run(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop._Loop, "run", run)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "lost": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no object": lambda path: path.write_bytes(b"[1, 2]\n"),
    "other keys": lambda path: path.write_bytes(b'{"a": 1}\n'),
}


def some(names: Iterable[str], *quick: str) -> list[Any]:
    """Names to parametrize a test with, of which all but the quick ones are slow."""
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in names]


OTHER = ("optim.learning_rate=0.2", "seed=1", "model.spec=MgNet[1,1]-[9]-B^l")


@pytest.mark.parametrize("damage", some(DAMAGES, "lost", "empty", "not UTF-8", "cut"))
@pytest.mark.parametrize("other", some(OTHER, "optim.learning_rate=0.2"))
def test_another_configuration_is_refused_without_config_json(
    damage: str, other: str, workdir: Path, said: Said
) -> None:
    DAMAGES[damage](workdir / "config.json")
    before = files(workdir)
    code, text = said(workdir, f"--config.{other}")
    name = other.partition("=")[0]
    assert code == 2 and f"config.{name} was " in text
    assert files(workdir) == before


@pytest.mark.parametrize("damage", some(DAMAGES, "lost", "not UTF-8"))
def test_what_a_run_is_is_written_again(
    damage: str, workdir: Path, only_begin: None, said: Said
) -> None:
    before = files(workdir)
    names = ("config.json", "data.json", "run.json")
    for name in names:
        DAMAGES[damage](workdir / name)
    code, text = said(workdir, "--mode=verify")
    assert code == 1 and text.count("WRONG") == 3
    code, text = said(workdir)
    assert code == 130
    assert all(str(workdir / name) in text for name in names)
    after = files(workdir)
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert said(workdir, "--mode=verify")[0] == 0


def test_a_run_goes_on_without_all_of_it(workdir: Path, uninterrupted: Path, said: Said) -> None:
    for name in ("config.json", "data.json", "run.json", "metrics.jsonl", "metrics.csv"):
        (workdir / name).unlink()
    assert said(workdir)[0] == 0
    assert_as_uninterrupted(workdir, uninterrupted)


def test_a_renamed_checkpoint_is_not_taken_for_another(
    workdir: Path, only_begin: None, said: Said
) -> None:
    folder = workdir / "checkpoints"
    (folder / "30").rename(folder / "32")
    code, text = said(workdir)
    assert code == 130 and "holds the state after step 30" in text
    assert "The one of step 22 is used" in text
    assert (folder / "damaged" / "32").is_dir()


def belongs_to(folder: Path, **other: Any) -> None:
    found = manifest.read(folder)
    manifest.write(folder, dataclasses.replace(found, run=dict(found.run) | other))


@pytest.mark.parametrize("step", ["22", "30"])
def test_a_checkpoint_of_another_run_is_refused(step: str, workdir: Path, said: Said) -> None:
    folder = workdir / "checkpoints"
    config = dict(manifest.read(folder / step).run["config"]) | {"seed": 1}
    belongs_to(folder / step, id="other", config=config)
    before = files(workdir)
    for flags in ([], ["--config.seed=1"], ["--mode=eval"]):
        code, text = said(workdir, *flags)
        assert code == 2 and f"has checkpoints of another run: {step}" in text
    assert said(workdir, "--mode=verify")[0] == 1
    assert files(workdir) == before
    (workdir / "run.json").unlink()
    code, text = said(workdir)
    assert code == 2 and "checkpoints of several runs" in text


@pytest.mark.parametrize("steps", [["30"], ["22", "30"]])
def test_a_checkpoint_of_a_newer_version_is_refused(
    steps: list[str], workdir: Path, said: Said
) -> None:
    for step in steps:
        path = workdir / "checkpoints" / step / "manifest"
        body = path.read_bytes().partition(b"\n")[2].replace(b'"format": 1', b'"format": 2')
        path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    before = files(workdir)
    for flags in ([], ["--mode=eval"]):
        code, text = said(workdir, *flags)
        assert code == 2 and "has format 2" in text and "go on with the version" in text
    assert said(workdir, "--mode=verify")[0] == 1
    assert files(workdir) == before


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"".join(change(path.read_bytes().splitlines(True))))


METRICS: dict[str, Callable[[Path], object]] = {
    **DAMAGES,
    "its last byte lost": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "first twice": lines(lambda every: [every[0], *every]),
    "swapped": lines(lambda every: [every[1], every[0], *every[2:]]),
    "other numbers": lines(lambda every: [line.replace(b"1", b"2") for line in every]),
    "other line ends": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize("damage", some(METRICS, "lost", "empty", "swapped", "its last byte lost"))
def test_records_that_are_not_those_are_written_again(
    damage: str, recorded: Path, tmp_path: Path, only_begin: None, said: Said
) -> None:
    """Of a run that is finished, and of one that goes on."""
    for step in ("44", "40"):
        folder = shutil.copytree(recorded, tmp_path / step)
        if step == "40":
            shutil.rmtree(folder / "checkpoints" / "44")
            history = manifest.read(folder / "checkpoints" / "40").history
            (folder / "metrics.jsonl").write_text(history)
        path = folder / "metrics.jsonl"
        before = path.read_bytes()
        METRICS[damage](path)
        wrong = path.read_bytes() if path.exists() else None
        assert wrong != before
        code, text = said(folder, "--mode=verify")
        assert code == 1 and "metrics.jsonl" in text
        code, text = said(folder, *RECORDS)
        assert code == (130 if step == "40" else 0)
        assert f"{path}" in text and "again" in text
        assert path.read_bytes() == before
        aside = folder / "damaged" / "metrics.jsonl"
        assert (aside.read_bytes() if aside.exists() else None) == wrong
        assert said(folder, "--mode=verify")[0] == 0


@pytest.mark.parametrize("damage", some([*METRICS, "last twice"], "lost", "zeroed", "last twice"))
def test_the_table_of_a_finished_run_is_mended(
    damage: str, recorded: Path, tmp_path: Path, said: Said
) -> None:
    workdir = shutil.copytree(recorded, tmp_path / "run")
    names = ("metrics.csv", "metrics.jsonl") if damage == "last twice" else ("metrics.csv",)
    before = {name: (workdir / name).read_bytes() for name in names}
    for name in names:
        twice = lines(lambda every: [*every, every[-1]])
        METRICS.get(damage, twice)(workdir / name)
    code, text = said(workdir, "--mode=verify")
    assert code == 1 and "metrics.csv" in text + "metrics.csv" * (damage == "last twice")
    code, text = said(workdir, *RECORDS)
    assert code == 0 and "written again" in text
    assert {name: (workdir / name).read_bytes() for name in names} == before
    assert said(workdir, "--mode=verify")[0] == 0


def test_another_number_of_devices_is_said(workdir: Path, only_begin: None, said: Said) -> None:
    path = workdir / "checkpoints" / "30"
    manifest.write(path, dataclasses.replace(manifest.read(path), devices=4))
    text = said(workdir)[1]
    assert "Going on from step 30" in text and f"saved with 4, now {jax.device_count()}" in text


def test_a_checkpoint_of_another_network_is_said_to_be_whole(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    """As when the code of the network has changed: nothing is to be thrown away."""
    create_state = training_job.create_state

    def changed(*arguments: Any, **options: Any) -> Any:
        state = create_state(*arguments, **options)
        params = dict(state.params)
        params["classifier"] = params.pop("head")
        params["stem"] = jax.tree.map(lambda x: jnp.zeros((*x.shape, 2)), params["stem"])
        return state.replace(params=params)

    monkeypatch.setattr(training_job, "create_state", changed)
    before = files(workdir / "checkpoints")
    for flags in ([], ["--mode=eval"]):
        code, text = said(workdir, *flags)
        assert code == 2 and "is whole, but of another network" in text
        assert "new: params/classifier/" in text and "missing now: params/head/" in text
        assert "other: params/stem/" in text and " was float32[" in text
        assert "remove" not in text.split("is whole")[1] and "damaged" not in text
    assert files(workdir / "checkpoints") == before


def test_one_other_pixel_is_another_data_set(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    def other(config: Any) -> Any:
        data = load(config)
        images = data.test.images.copy()
        images[7, 3, 3] ^= 1
        return dataclasses.replace(data, test=dataclasses.replace(data.test, images=images))

    load = loop.load
    monkeypatch.setattr(loop, "load", other)
    code, text = said(workdir)
    assert code == 2 and "its test images are others" in text


MNIST = (
    *("--config=mnist", "--config.model.spec=MgNet[1]-[4]-B^l", "--config.train.epochs=1"),
    *("--config.train.batch_size=20", "--config.optim.warmup_epochs=0.5"),
)


def write_mnist(folder: Path, counts: tuple[int, int] = (100, 30), other: int = -1) -> Path:
    """Noise in MNIST's files; of image number `other` of each, one pixel is another."""
    folder.mkdir()
    for part, count, seed in zip(("train", "t10k"), counts, (0, 1), strict=True):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (200, 28, 28), np.uint8)[:count]
        labels = (np.arange(count) % 10).astype(np.uint8)
        if other >= 0:
            images[other, 14, 14] ^= 1
        header = struct.pack(">4i", 2051, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2i", 2049, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


@pytest.mark.slow
def test_other_images_are_refused_and_may_be_scored_if_named(
    tmp_path: Path, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, workdir = write_mnist(tmp_path / "data"), tmp_path / "run"

    def train(where: Path, *flags: str) -> tuple[int, str]:
        code = command(workdir, *MNIST, f"--config.data.dir={where}", *flags)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert train(folder)[0] == 0
    scores = said(workdir, "--mode=eval")[1].splitlines()[-1]
    before = files(workdir)
    others = {
        "changed": write_mnist(tmp_path / "changed", other=7),
        "fewer": write_mnist(tmp_path / "fewer", (80, 20)),
        "more": write_mnist(tmp_path / "more", (120, 40)),
    }
    for other in others.values():
        code, text = train(other)
        assert code == 2 and "holds a run on another data set" in text and str(other) in text
        code, text = said(workdir, "--mode=eval", f"--config.data.dir={other}")
        assert code == 0 and "note: the " in text and "are not the" in text
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert train(moved)[0] == 0  # the same images elsewhere
    shutil.rmtree(moved)
    others["changed"].rename(moved)
    code, text = said(workdir, "--mode=eval")
    assert code == 2 and "they were changed" in text and "--config.data.dir=FOLDER" in text
    code, text = said(workdir, "--mode=eval", f"--config.data.dir={folder}")
    assert code == 0 and scores in text and "note:" not in text
    assert {k: v for k, v in files(workdir).items() if k != "config.json"} == {
        k: v for k, v in before.items() if k != "config.json"
    }
