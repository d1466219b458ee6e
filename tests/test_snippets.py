"""What the documents show runs: their Python is executed, their commands are read as given."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mgnet_jax.commandline import parse_arguments
from mgnet_jax.tools import TOOLS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "launch").glob("*.md")]
)
STARTS = ("python -m mgnet_jax.main", "mgnet ")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


PYTHON = [(path.name, text) for path in DOCUMENTS for text in blocks(path, "python")]
COMMANDS = [
    line
    for path in DOCUMENTS
    for text in blocks(path, "bash")
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith(STARTS)
]


@pytest.mark.parametrize(
    ("name", "code"), PYTHON, ids=[f"{name}-{i}" for i, (name, _) in enumerate(PYTHON)]
)
def test_python_runs(name: str, code: str, trained: Path) -> None:
    code = code.replace("runs/digits", str(trained)).replace("[256]", "[4]")
    if code.lstrip().startswith(("def ", "from jax import export")):
        pytest.fail(f"{name}: give the imports too")
    names = {"images": np.zeros((2, 8, 8, 1), np.uint8), "__name__": "snippet"}
    exec(compile(code, name, "exec"), names)
    if "get_config" in names:
        assert names["get_config"]().data.name == "mine"


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_read(line: str) -> None:
    start = next(start for start in STARTS if line.startswith(start))
    words = shlex.split(line.removeprefix(start), comments=True)
    values, _ = parse_arguments(["mgnet", *words])
    assert values.mode in TOOLS


def test_there_is_something_to_try() -> None:
    assert len(PYTHON) >= 5 and len(COMMANDS) > 20
    shown = " ".join(COMMANDS)
    assert {mode for mode in TOOLS if f"--mode={mode}" not in shown} <= {"train", "verify"}
