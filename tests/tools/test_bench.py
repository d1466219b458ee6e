"""--mode=bench measures the input, the step and both, and keeps what it found."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, command
from photos import write_classes

from mgnet_jax.training.bench import Rates, matrix_peak

QUICK = ("--mode=bench", "--seconds=0.02", "--repeats=3")


def measured(workdir: Path, *arguments: str) -> dict[str, Any]:
    assert command(workdir, *QUICK, *arguments) == 0
    return json.loads((workdir / "bench.json").read_text())


def consistent(found: dict[str, Any]) -> None:
    """What holds of any measurement."""
    for name in ("input", "step", "both"):
        rates = found[f"{name}_images_per_second"]
        assert len(rates["repeats"]) == 3
        assert 0 < rates["least"] <= rates["median"] <= rates["most"]
    assert found["compile_seconds"]["warm"] < found["compile_seconds"]["cold"]
    speed = found["step_images_per_second"]["median"] * found["flops_per_image"]
    assert found["step_flops_per_second"] == pytest.approx(speed)
    share = speed / found["matrix_flops_per_second"]
    assert 0 < found["share_of_matrix_peak"] == pytest.approx(share)
    assert found["memory_bytes"] > 1000


def test_of_a_set_on_the_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(tmp_path / "run", *SMALL)
    consistent(found)
    out = capsys.readouterr().out
    for text in ("input alone", "step alone", "both", "TFLOP/s", "compiling", "bench.json"):
        assert text in out
    assert found["waiting"] == 0 and found["model"]["spec"] == "MgNet[1,1]-[8]-B^l"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["bench.json"]


def test_of_photographs_it_says_what_is_waited_for(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos" / "train", {"a": 20, "b": 18}).parent
    write_classes(folder / "val", {"a": 4, "b": 5})
    found = measured(
        tmp_path / "run",
        *("--config.data.name=photographs", "--config.data.source=folder"),
        *("--config.data.crop_padding=0", "--config.data.image_size=8"),
        *("--config.train.batch_size=8", "--config.data.last_batch=use"),
        *("--config.model.spec=MgNet[1]-[4]-B^l", "--config.optim.warmup_epochs=0"),
        f"--config.data.dir={folder}",
    )
    consistent(found)
    assert 0 < found["waiting"] < 1  # reading takes longer than this network


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--seconds=0", "--seconds=0.0 must be a number > 0"),
        ("--repeats=0", "--repeats=0 must be a number >= 1"),
    ],
)
def test_flags_out_of_range_are_named(
    flag: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "--mode=bench", flag) == 2
    assert said in capsys.readouterr().err


def test_the_median_is_the_middle_one() -> None:
    assert Rates((3.0, 9.0, 1.0)).median == 3


def test_matrix_products_have_a_rate() -> None:
    assert matrix_peak("float32", 0.01) > 1e8
