"""--mode=inspect of a run: its page, its figures, its numbers."""

import csv
import json
import re
from pathlib import Path

import pytest
from commands import command
from PIL import Image


def test_a_run_is_looked_into(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page"
    few = ("--count=40", "--examples=1", f"--out={out}")
    assert command(trained, "--mode=inspect", *few) == 0
    assert str(out / "inspect.html") in capsys.readouterr().out
    page = (out / "inspect.html").read_text()
    assert "40 test images" in page and "Residual r after the last step" in page
    # nothing is fetched from anywhere
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    numbers = json.loads((out / "inspect" / "inspect.json").read_text())
    assert numbers["images"] == 40 and numbers["accuracy"] > 0.8
    assert all(value < 1e-12 for value in numbers["disagreement"].values())
    assert all(t["disagreement"] < 1e-5 and t["least"] >= 0 for t in numbers["traces"])
    with (out / "inspect" / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == [f"level{i}" for i in (1, 2, 3) for _ in range(3)]
    assert float(rows[4]["residual_25"]) <= float(rows[4]["residual_50"])
    drawn = sorted(path.stem for path in (out / "inspect").glob("*.png"))
    assert drawn == [
        *("ablation", "damping", "growth", "image1_evidence", "image1_f", "image1_r", "image1_u"),
        *("residual", "singular_values", "spectra"),
    ]
    assert page.count('<img class="plot"') == len(drawn)
    for path in (out / "inspect").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_a_network_without_a_system_shows_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--config.train.epochs=1", "--config.optim.warmup_epochs=0")
    assert command(tmp_path, "--config.model.spec=WRN-10-1", *short) == 0
    assert command(tmp_path, "--mode=inspect", "--count=20", "--examples=1") == 0
    said = "WRN-10-1 is not made of smoothing steps with A and B"
    assert said in capsys.readouterr().out
    page = (tmp_path / "inspect.html").read_text()
    assert said in page and "Features after the last block" in page
    assert not (tmp_path / "inspect" / "inspect.json").exists()
