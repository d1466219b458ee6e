"""--mode=reproduce: each row a run of its own, gone on with, and reported as it is."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Killed, command, records, records_with_times

from mgnet_jax.config import ConfigError, paper
from mgnet_jax.models import parse
from mgnet_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
DIGITS = (  # what makes the rows short: they are trained on digits
    *("--config.data.name=digits", "--config.data.crop_padding=1", "--config.train.epochs=2"),
    *("--config.data.train_images=200", "--config.eval.every_epochs=1"),
)


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_rows_are_those_that_the_networks_are_tested_with() -> None:
    tested = json.loads((ROOT / "tests" / "models" / "paper_rows.json").read_text())
    ours = [row for table in range(1, 12) for row in paper.rows(table)]
    assert [[r.table, r.data, r.name, r.parameters] for r in ours] == [
        [table, data.lower(), name, printed] for table, data, name, printed, _ in tested
    ]
    assert all(0 < row.accuracy < 100 for row in ours)


@pytest.mark.parametrize("table", range(1, 12))
def test_every_row_has_a_configuration_of_its_own(table: int) -> None:
    labels = set()
    for row in paper.rows(table):
        config = paper.configuration(row, "paper", 3, {"optim.momentum": 0.5})
        assert (config.model.spec, config.data.name, config.seed) == (row.name, row.data, 3)
        assert config.train.epochs == 150 and config.optim.momentum == 0.5
        labels.add(config.name)
    assert len(labels) == len(paper.rows(table))


def test_a_small_network_is_the_same_network_with_fewer_channels() -> None:
    row = paper.rows(10)[3]
    config = paper.configuration(row, "small", 0, {})
    assert row.name == "MgNet[4,2,2,2]-[256]-B^{l,i}"
    assert parse(config.model.spec) == parse("MgNet[4,2,2,2]-[16]-B^{l,i}")
    with pytest.raises(ConfigError, match="AlexNet has no narrower form"):
        paper.configuration(paper.rows(4)[0], "small", 0, {})


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--mode=reproduce", "--table=1", "--scale=small", "--rows=4", "--seeds=2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    begun = time.monotonic()
    assert command(whole, *arguments, *DIGITS) == 0
    runs = [run for run in whole.iterdir() if run.is_dir()]
    taken = [max(r.get("seconds", 0) for r in records_with_times(run)) for run in runs]
    assert len(taken) == 2 and sum(taken) < time.monotonic() - begun  # each from its own start
    save, saved = Checkpoints.save, []

    def dying(checkpoints: Checkpoints, state: Any, facts: Any) -> None:
        save(checkpoints, state, facts)
        saved.append(facts.step)
        if len(saved) == 3:  # of two a run
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", dying)
        command(broken, *arguments, *DIGITS)
    for lock in broken.rglob(".lock"):
        lock.unlink()
    assert [row["seeds"] for row in read(broken)] == ["1"]
    assert command(broken, *arguments, *DIGITS) == 0
    assert len(saved) == 3
    capsys.readouterr()
    found, expected = read(broken), read(whole)
    for a, b in zip(found, expected, strict=True):
        assert a | {"minutes": ""} == b | {"minutes": ""}
    runs = [path for path in whole.iterdir() if path.is_dir()]
    assert len(runs) == 2
    last = [r["test_accuracy"] for p in sorted(runs) for r in records(p) if r["kind"] == "eval"]
    assert expected[0]["last epoch %"].startswith(f"{50 * (last[1] + last[3]):.2f} ± ")
    text = (whole / "report.md").read_text()
    assert "A scaled-down study, not the paper's recipe" in text and "94.21" in text
    assert "A=A^l \\*, B=σ∘B^{l,i} \\* σ" in text
    page = (whole / "report.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_rows_without_their_data_are_not_run_and_not_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--mode=reproduce", "--table=4", "--scale=small", "--rows=1;3")
    assert command(tmp_path / "t", *arguments, f"--config.data.dir={tmp_path}") == 0
    notes = [row["note"] for row in read(tmp_path / "t")]
    assert notes[0].startswith("not run: AlexNet has no narrower form")
    assert notes[1].startswith("not run:") and str(tmp_path) in notes[1]


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "t"
    assert command(folder, "--mode=reproduce", "--table=5", "--dry_run", "--tflops=100") == 0
    out = capsys.readouterr().out
    assert "8 runs" in out and "none was started" in out and not folder.exists()
    # MgNet[2,2,2,2]-256: 6 x 3.6 GMAC x 50,000 images x 150 epochs
    assert any("MgNet[2,2,2,2]-[256]-B^l" in line and " 162 " in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--table=12",), "--table=12: the paper's tables are 1 to 11"),
        (("--table=2", "--rows=9"), "'9' is no row of Table 2: 1 ResNet18"),
        (("--table=2", "--scale=tiny"), "--scale=tiny must be one of paper, small"),
        (("--table=2", "--seeds=0"), "--seeds=0 must be at least 1"),
        (("--table=2", "--config=mnist"), "--mode=reproduce has its own"),
    ],
)
def test_mistakes(
    flags: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "t", "--mode=reproduce", *flags) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
