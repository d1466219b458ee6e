"""What every tool says of itself."""

import importlib

import pytest

from mgnet_jax.tools import TOOLS


def test_training_comes_first() -> None:
    assert next(iter(TOOLS)) == "train"


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_says_what_it_is(name: str) -> None:
    tool = TOOLS[name]
    assert tool is importlib.import_module(f"mgnet_jax.tools.{name}")
    assert name == tool.NAME
    assert tool.HELP and "\n" not in tool.HELP and not tool.HELP.endswith(".")
    assert callable(tool.run)
    for flag in tool.FLAGS:
        assert flag.name.isidentifier() and flag.meaning
        same = [f for other in TOOLS.values() for f in other.FLAGS if f.name == flag.name]
        assert {type(f.default) for f in same} == {type(flag.default)}
