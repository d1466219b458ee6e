"""--mode=summary prints what there is to know before a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import command


def test_summary_prints_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "none", "--mode=summary", "--config=cifar100") == 0
    out = capsys.readouterr().out
    for text in ("8,301,924", "3.603 GMAC", "MiB", "model.spec", "restrict3"):
        assert text in out
    assert not (tmp_path / "none").exists()


def test_first_images_that_are_too_small_for_the_network_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--config.data.small_size=6", "--config.data.small_epochs=1"
    network = "--config=imagenet:demo", "--config.model.spec=AlexNet"
    assert command(tmp_path, "--mode=summary", *network, *small) == 2
    assert "config.data.small_size=6: a grid of 6x6 is too small" in capsys.readouterr().err


def test_it_runs_as_a_module_from_any_folder(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "mgnet_jax.main", "--mode=summary", "--config=configs/mnist.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "on mnist" in done.stdout


def test_it_loads_only_what_it_needs(tmp_path: Path) -> None:
    code = """
import sys
from mgnet_jax.main import main
assert main(["main", "--mode=summary", "--jit_cache="]) == 0
heavy = {"orbax", "matplotlib", "optax", "grain", "tensorflow_datasets", "sklearn"}
sys.exit(", ".join(heavy & set(sys.modules)) or 0)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
