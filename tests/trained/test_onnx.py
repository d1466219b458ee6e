"""An exported ONNX model computes what the network does, where jax2onnx is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from commands import command

import mgnet_jax

needs_it = pytest.mark.skipif(importlib.util.find_spec("jax2onnx") is None, reason="needs jax2onnx")


@needs_it
@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_gives_the_same_logits(trained: Path, tmp_path: Path) -> None:
    import onnxruntime

    assert command(trained, "--mode=export", "--onnx", f"--out={tmp_path}") == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (given,) = session.get_inputs()
    network = mgnet_jax.load(tmp_path)
    rng = np.random.default_rng(0)
    for n in (1, 3):
        images = rng.integers(0, 256, (n, 8, 8, 1), np.uint8)
        (logits,) = session.run(None, {given.name: images})
        expected = network.logits(images)
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    assert "model.onnx" in (tmp_path / "README.md").read_text()


@pytest.mark.skipif(importlib.util.find_spec("jax2onnx") is not None, reason="it is installed")
def test_without_jax2onnx_it_says_what_to_install(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained, "--mode=export", "--onnx", f"--out={tmp_path / 'out'}") == 2
    assert "--onnx needs jax2onnx: pip install" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
