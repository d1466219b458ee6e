"""examples/: the solver of diffusion.py against known solutions, and the whole of it, small."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PATH = Path(__file__).parent.parent / "examples" / "diffusion.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(PATH))


def test_the_solver_knows_a_smooth_solution(example: dict[str, Any]) -> None:
    errors = []
    for n in (16, 32):
        x = (np.arange(n) + 0.5) / n
        exact = np.sin(np.pi * x)[:, None] * np.sin(2 * np.pi * x)
        found = example["solve"](np.full((n, n), 3.0), 15 * np.pi**2 * exact)
        errors.append(np.abs(found - exact).max())
    assert errors[1] < 0.01
    assert 3 < errors[0] / errors[1] < 5  # second order


def test_the_flux_goes_on_over_a_jump_of_a(example: dict[str, Any]) -> None:
    n = 64
    a = np.ones((n, n))
    a[:, n // 2 :] = 10
    # nearly one-dimensional in the middle of a tall strip: a u' is continuous where f is 0
    f = np.zeros((n, n))
    f[:, : n // 4] = 1
    u = example["solve"](a, f)
    row = u[n // 2]
    left = row[n // 2 - 1] - row[n // 2 - 2]
    right = 10 * (row[n // 2 + 1] - row[n // 2])
    assert abs(left - right) < 0.1 * abs(left)


def test_fields_are_the_same_functions_on_every_grid(example: dict[str, Any]) -> None:
    coarse, fine = (example["fields"](np.random.default_rng(0), n, 2) for n in (64, 192))
    apart = np.abs(coarse - fine[:, 1::3, 1::3])  # these cells have the same centres
    assert apart.max() < 0.01 * np.abs(coarse).max()


def test_networks_have_about_as_many_parameters(example: dict[str, Any]) -> None:
    sizes = [example["parameters"](model) for model in example["networks"](16).values()]
    assert len(sizes) == 4 and max(sizes) < 1.15 * min(sizes)


def test_a_name_that_none_has_is_said(
    example: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        example["main"](["--only=nope"])
    assert "'nope' is part of none of MgNet-V[2,2,2,2,2]" in capsys.readouterr().err


def test_the_figures_of_the_mathematics_are_drawn(tmp_path: Path) -> None:
    runpy.run_path(str(PATH.with_name("figures.py")))["main"]([f"--out={tmp_path}"])
    drawn = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(drawn) == {"smoothing.png", "grids.png"} and min(drawn.values()) > 10_000


@pytest.mark.slow
def test_it_learns(example: dict[str, Any], tmp_path: Path) -> None:
    small = ["--problems=60", "--tests=4", "--epochs=6", "--batch=10", "--cells=16"]
    only = "--only=V[2;V[1;U-Net"
    example["main"]([*small, only, "--channels=8", f"--out={tmp_path}"])
    rows = json.loads((tmp_path / "diffusion.json").read_text())
    assert len(rows) == 3
    assert rows[0]["error_16"] < 1  # better than u = 0
    assert all(np.isfinite([row["error_16"], row["error_32"]]).all() for row in rows)
    assert (tmp_path / "diffusion.png").stat().st_size > 5000
