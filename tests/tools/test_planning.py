"""--mode=plan prints what training takes, or says why it cannot."""

from pathlib import Path

import pytest
from commands import command

IMAGENET = ("--mode=plan", "--config=imagenet:batch1024")


def test_a_plan_needs_no_device_and_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "none", *IMAGENET, "--devices=16", "--kind=tpu-v3") == 0
    out = capsys.readouterr().out
    for text in ("batch on a device   64", "1,251", "187,650", "61.5 TFLOP/s", "0.3 of", "621.2"):
        assert text in out
    assert "does not fit" not in out and "join" not in out
    assert not (tmp_path / "none").exists()


def test_what_does_not_fit_is_said_with_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, *IMAGENET, "--devices=1", "--kind=v100") == 0
    out = capsys.readouterr().out
    assert "it does not fit" in out and "accumulate" in out and "sharded'," not in out


def test_more_devices_than_the_links_join(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--mode=plan", "--devices=16", "--config.train.sharding=sharded")
    assert command(tmp_path, *arguments) == 0
    out = capsys.readouterr().out
    assert "the links join 8 devices" in out
    assert "cores to read" not in out  # the digits are no photographs


def test_a_table_of_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--mode=plan", "--devices=0", "--config.train.batch_size=96")
    assert command(tmp_path, *arguments, "--utilisation=0.5") == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.lstrip()[:1].isdigit()]
    assert [int(row[0]) for row in rows] == [2**i for i in range(9)]
    assert [int(row[1]) for row in rows[:6]] == [96, 48, 24, 12, 6, 3]
    assert out.count("the batch cannot be split so") == 3
    assert "0.5 of 494 TFLOP/s" in out


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--kind=abacus", "there are v100"),
        ("--devices=-1", "--devices=-1 must be"),
        ("--devices=7", "must be divisible by"),
        ("--utilisation=0", "> 0 and <= 1"),
        ("--utilisation=nan", "> 0 and <= 1"),
        ("--images_per_core=0", "> 0"),
        ("--config.model.dtype=float64", "float64"),
    ],
)
def test_mistakes_are_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, text: str
) -> None:
    assert command(tmp_path, "--mode=plan", flag) == 2
    assert text in capsys.readouterr().err
