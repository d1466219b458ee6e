"""The networks that torchvision has too: logits, gradients, batch statistics."""

import importlib.util

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("needs torchvision", allow_module_level=True)

from tests.torch_parity.cases import torchvision_cases
from tests.torch_parity.compare import BAR, Case, compare

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", torchvision_cases(), ids=str)
def test_as_torchvision_has_it(case: Case) -> None:
    difference = compare(case)
    print(f"{case}: {difference}")
    assert difference.within(BAR), difference
