"""--mode=doctor, and the check before training."""

from pathlib import Path

import pytest
from commands import SMALL, command

from mgnet_jax.config import shipped
from mgnet_jax.models import Convolution
from mgnet_jax.tools import doctor
from mgnet_jax.training import installation, numerics, whole_step
from mgnet_jax.training.numerics import Check

RIGHT, WRONG = Check("sum", "float32", 1e-8, 1e-7), Check("product", "float32", 1e-3, 1e-7)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Check]:
    """What all checks find, in place of the real ones."""
    found = [RIGHT]
    monkeypatch.setattr(numerics, "quick", lambda dtype, device: found)
    monkeypatch.setattr(whole_step, "train_steps", lambda dtypes, device: found)
    monkeypatch.setattr(
        numerics,
        "convolutions",
        lambda case, dtype, algorithm: [Check(f"{case} {algorithm}", dtype, 0.0, 1e-7)],
    )
    monkeypatch.setenv("MGNET_NUMERICS", str(tmp_path / "numerics"))
    monkeypatch.setattr(installation, "_right", set())
    return found


def test_versions_devices_and_checks_are_printed(
    found: list[Check], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "run", "--mode=doctor", "--config=mnist") == 0
    out = capsys.readouterr().out
    for text in (*installation.PACKAGES, "XLA_FLAGS", "GiB free", "cores", "cpu:1"):
        assert text in out
    for text in ("operations in float64", "bfloat16", "16 to 16 channels on 28x28", "all of it"):
        assert text in out
    assert "7x7, stride 2" not in out and "WRONG" not in out and "28x28 auto" in out
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_ends_it_with_1_and_the_remedy(
    found: list[Check], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.append(WRONG)
    assert command(tmp_path, "--mode=doctor", "--config=digits") == 1
    said = capsys.readouterr()
    assert "WRONG" in said.out and "ok" in said.out
    assert "product, float32: error 0.001, bound 1e-07" in said.err
    assert "remedy: " in said.err


def test_a_known_bad_release_is_named(
    found: list[Check],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "version", lambda package: "0.10.2")
    assert command(tmp_path, "--mode=doctor", "--config=digits") == 0
    assert "issue 39103" in capsys.readouterr().out


def test_training_stops_before_anything_is_written(
    found: list[Check], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.append(WRONG)
    assert command(tmp_path / "run", *SMALL) == 1
    said = capsys.readouterr()
    assert "computes wrong" in said.err and "product, float32" in said.err
    assert "remedy: " in said.err
    assert said.out == ""
    assert not (tmp_path / "run").exists() and not (tmp_path / "numerics").exists()


def test_training_says_that_it_checked_once(
    found: list[Check], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (True, False):
        assert command(tmp_path, *SMALL, "--config.train.epochs=0") == 2
        assert ("checked once" in capsys.readouterr().out) == said


def test_a_type_that_there_is_not_is_left_to_the_checks_of_the_configuration(
    found: list[Check], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "--config.model.dtype=float16") == 2
    said = capsys.readouterr()
    assert "config.model.dtype" in said.err and "checked" not in said.out


def test_the_shapes_are_those_of_the_configs_that_are_shipped() -> None:
    assert {"digits", "mnist", "cifar10", "cifar100", "imagenet"} <= {*shipped.files()}
    shapes = doctor.convolutions([shipped.load(name) for name in ("cifar10", "imagenet")])
    assert len(shapes) == len({*shapes})
    for case in (
        Convolution(32, 3, 256, 256),
        Convolution(8, 3, 256, 256, stride=2),
        Convolution(224, 7, 3, 64, stride=2, padding=3),
        Convolution(7, 3, 512, 512),
    ):
        assert case in shapes


@pytest.mark.slow
def test_this_installation_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "--mode=doctor") == 0
    assert "all of it is right" in capsys.readouterr().out
