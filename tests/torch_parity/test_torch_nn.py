"""Every family against networks written from torch.nn: logits, gradients, batch statistics."""

from collections.abc import Callable

import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import torch
from torch import nn

from tests.torch_parity.cases import torch_nn_cases
from tests.torch_parity.compare import BAR, Case, compare

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", torch_nn_cases(), ids=str)
def test_as_written_from_torch_nn(case: Case) -> None:
    difference = compare(case)
    print(f"{case}: {difference}")
    assert difference.within(BAR), difference


def other_kernel(network: nn.Module) -> None:
    with torch.no_grad():
        network.level1.A.weight[0, 0, 1, 1] += 1e-7


def other_momentum(network: nn.Module) -> None:
    network.restrict1["Pi"].bn.momentum = 0.1 + 1e-7


def other_epsilon(network: nn.Module) -> None:
    network.level2.step[1]["bn_r"].eps = 2e-5


@pytest.mark.parametrize(
    ("disturb", "seen_in"),
    [
        (other_kernel, {"evaluation", "logits", "gradients", "statistics"}),
        (other_momentum, {"statistics"}),
        (other_epsilon, {"evaluation", "logits", "gradients", "statistics"}),
    ],
)
def test_the_comparison_sees_a_difference(
    disturb: Callable[[nn.Module], None], seen_in: set[str]
) -> None:
    difference = compare(torch_nn_cases()[0], disturb)
    assert not difference.within(BAR)
    columns = ("evaluation", "logits", "gradients", "statistics")
    assert {column for column in columns if getattr(difference, column) > BAR} == seen_in
