"""The trainer takes networks of every kind: without statistics, with dropout, with blocks."""

from pathlib import Path

import chex
import pytest
from commands import command, newest_state, records

SHORT = ("--config.train.epochs=2", "--config.optim.warmup_epochs=0.5", "--config.seed=3")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("AlexNet", marks=pytest.mark.slow),
        pytest.param("WRN-10-1-dropout0.3", marks=pytest.mark.slow),
        "pre-act ResNet[1,2]-[8]-A^l-B^l@table3",
    ],
)
def test_a_network_trains_and_the_same_command_gives_the_same(name: str, tmp_path: Path) -> None:
    arguments = (f"--config.model.spec={name}", *SHORT, "--config.optim.learning_rate=0.01")
    for run in ("one", "two"):
        assert command(tmp_path / run, *arguments) == 0
    assert records(tmp_path / "one") == records(tmp_path / "two")
    one, two = (newest_state(tmp_path / run) for run in ("one", "two"))
    chex.assert_trees_all_equal(one, two)
    losses = [r["loss"] for r in records(tmp_path / "one") if r["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert command(tmp_path / "one", "--mode=eval") == 0
