"""The demonstration: a small set of photographs made, prepared and trained on by one command."""

from pathlib import Path

import pytest
from commands import command, records

QUICK = (
    "--config.train.epochs=1",
    "--config.optim.warmup_epochs=0",
    "--config.train.batch_size=60",
)


def test_it_is_made_once_prepared_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--config=imagenet:demo", "--config.model.spec=MgNet[1]-[4]-B^l", *QUICK)
    assert command(tmp_path / "run", *small, "--mode=summary") == 0
    assert "demo: 3 classes, 64x64x3" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())  # nothing is made to be looked at
    assert command(tmp_path / "run", *small) == 0
    out = capsys.readouterr().out
    assert "a small data set, in folders for each class: runs/demo-data/photographs" in out
    assert "--mode=prepare --source=runs/demo-data/photographs --out=runs/demo-data" in out
    assert "runs/demo-data/demo/1.0.0 is whole" in out and "train 900 images" in out
    assert [r["kind"] for r in records(tmp_path / "run")][-1] == "eval"
    assert command(tmp_path / "run", *small) == 0
    out = capsys.readouterr().out
    assert "This run is finished" in out and "small data set" not in out
    assert command(tmp_path / "run", "--mode=eval") == 0
    assert "180 test images" in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What configs/imagenet.py says it comes to, less a margin for other processors."""
    monkeypatch.chdir(tmp_path)
    assert command(tmp_path / "run", "--config=imagenet:demo") == 0
    assert records(tmp_path / "run")[-1]["test_accuracy"] >= 0.85
