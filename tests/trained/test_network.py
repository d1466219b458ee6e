"""A trained network apart from its run: the same numbers, whatever way it was kept."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import command, records

import mgnet_jax
from mgnet_jax.data import sources
from mgnet_jax.trained.network import ImagesError, Trained
from mgnet_jax.weights.facts import Weights


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    arguments = ("--stablehlo=cpu,cuda,tpu", "--pytorch")
    assert command(trained, "--mode=export", f"--out={out}", *arguments) == 0
    return out


@pytest.fixture(scope="module")
def network(exported: Path) -> Trained:
    return mgnet_jax.load(exported)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return sources.load("digits").test.images


def test_an_export_is_the_run_to_the_last_bit(
    trained: Path, network: Trained, images: np.ndarray
) -> None:
    run = mgnet_jax.load(trained)
    assert run.arrays.keys() == network.arrays.keys()
    for name, x in run.arrays.items():
        np.testing.assert_array_equal(network.arrays[name], x)
    np.testing.assert_array_equal(run.predict(images), network.predict(images))
    assert run.facts == network.facts


def test_it_knows_what_it_is(trained: Path, network: Trained) -> None:
    assert network.spec == "MgNet[2,2,2]-[32]-B^l"
    assert network.class_names == tuple("0123456789")
    assert network.config.train.epochs == 12
    assert network.config.data.dir == ""
    final = [r for r in records(trained) if r["kind"] == "eval"][-1]
    assert network.facts.scores["test_accuracy"] == final["test_accuracy"]
    assert (network.facts.step, network.facts.epoch) == (12 * 22, 12)


def test_predicting_scores_as_training_did(network: Trained, images: np.ndarray) -> None:
    labels = sources.load("digits").test.labels
    p = network.predict(images)
    assert p.shape == (360, 10) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert np.mean(p.argmax(1) == labels) == network.facts.scores["test_accuracy"]
    loss = -np.mean(np.log(p[np.arange(360), labels]))
    assert loss == pytest.approx(network.facts.scores["test_loss"], rel=1e-5)


def test_with_mirror_images_it_predicts_as_its_run_scored(
    network: Trained, images: np.ndarray
) -> None:
    facts = dataclasses.replace(network.facts, config={**network.facts.config, "eval.flip": True})
    both = Trained(Weights(facts, network.arrays)).logits(images)
    expected = (network.logits(images) + network.logits(images[:, :, ::-1])) / 2
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(both, network.logits(images), atol=0.1)


def test_with_shifted_images_too_it_predicts_as_its_run_scored(
    network: Trained, images: np.ndarray
) -> None:
    """The mean by hand, of images with their edges reflected."""
    config = {**network.facts.config, "eval.flip": True, "eval.shift": 2}
    views = Trained(Weights(dataclasses.replace(network.facts, config=config), network.arrays))
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), "reflect")
    expected = np.zeros((len(images), 10))
    for x, share in ((images, 0.5), (wide[:, :-4, :-4], 0.25), (wide[:, 4:, 4:], 0.25)):
        for seen in (x, x[:, :, ::-1]):
            expected += share / 2 * network.logits(np.ascontiguousarray(seen))
    np.testing.assert_allclose(views.logits(images), expected, rtol=1e-4, atol=1e-4)


def test_the_test_set_is_scored_the_same_from_the_export(
    trained: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for folder in (trained, exported):
        assert command(folder, "--mode=eval") == 0
        tables.append(capsys.readouterr().out.splitlines()[-1])
    assert tables[0] == tables[1] and "%" in tables[0]


def test_pixels_and_floats_and_single_images_are_the_same(
    network: Trained, images: np.ndarray
) -> None:
    p = network.predict(images[:5])
    np.testing.assert_allclose(network.predict(images[:5] / np.float32(255)), p, atol=1e-6)
    np.testing.assert_allclose(network.predict(images[0]), p[:1], atol=1e-6)
    np.testing.assert_allclose(network.predict(images[0, ..., 0]), p[:1], atol=1e-6)
    np.testing.assert_allclose(network.predict(images[:5], batch_size=2), p, atol=1e-6)
    assert network.predict(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\): give uint8 pixels or floats"),
        (np.full((2, 8, 8, 1), 255.0), "floats from 255 to 255"),
        (np.zeros((2, 8, 8, 1), np.int64), "type int64"),
    ],
)
def test_what_cannot_be_meant_is_refused(network: Trained, images: np.ndarray, words: str) -> None:
    with pytest.raises(ImagesError, match=words):
        network.predict(images)


def test_its_features_are_those_of_the_model(network: Trained, images: np.ndarray) -> None:
    found = network.features(images[:3])
    assert found["level1"]["u"].shape == (3, 3, 8, 8, 32)
    u = found["level3"]["u"][-1].mean((1, 2))
    head = {name: network.arrays[f"params/head/linear/{name}"] for name in ("kernel", "bias")}
    logits = u @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, network.logits(images[:3]), atol=1e-4)


def test_the_program_is_the_network_without_this_package(
    exported: Path, network: Trained, images: np.ndarray
) -> None:
    program = jax.export.deserialize(bytearray((exported / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 7):
        logits = np.asarray(program.call(images[:count]))
        np.testing.assert_allclose(logits, network.logits(images[:count]), atol=1e-4)


def test_the_card_says_how_it_was_scored(exported: Path, network: Trained) -> None:
    card = (exported / "README.md").read_text()
    assert f"test accuracy | {100 * network.facts.scores['test_accuracy']:.2f} %" in card
    assert "all 360 test images after epoch 12" in card
    assert "93,866" in card


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("model.safetensors", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "SHA-256"),
        ("model.json", lambda raw: raw[:100], "model.json cannot be read"),
        ("model.json", lambda raw: raw.replace(b"MgNet[2", b"MgNet(2"), "does not describe"),
        ("model.json", lambda raw: raw.replace(b'"format": 1', b'"format": 9'), "has format 9"),
    ],
)
def test_damage_is_named(
    exported: Path,
    tmp_path: Path,
    name: str,
    change: object,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))  # type: ignore[operator]
    assert command(folder, "--mode=export", f"--out={tmp_path / 'new'}") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_is_no_network_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path / "nothing", "--mode=export") == 2
    assert "is not there: give the workdir of a run" in capsys.readouterr().err
    assert command(tmp_path, "--mode=export") == 2
    assert "no folder of a run or an export" in capsys.readouterr().err


def test_no_folder_of_a_person_is_handed_on(exported: Path) -> None:
    facts = json.loads((exported / "model.json").read_text())
    assert not any(str(value).startswith("/") for value in facts["config"].values())
