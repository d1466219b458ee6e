"""What the documents show runs: their Python, and their commands but for those named here."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgnet_jax.commandline import parse_arguments
from mgnet_jax.main import main
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


NOT_RUN = {  # those that are not run here, and why
    r"main +# digits": "the fixture `trained` is this command, with 12 of its 30 epochs",
    r"data.dir=(FOLDER|SETS)|=mnist|mnist.py|cifar10.py:small|runs/mnist": "needs a data set "
    "that a bare machine lacks; tests/data and tests/tools train on small ones of that form",
    r"imagenet.py:demo": "trains for a minute; tests/tools/test_demo.py does, for a shorter time",
    r"--mode=prepare": "tests/tools/test_prepare.py",
    r"--mode=bench": "a minute; tests/tools/test_bench.py has smaller networks",
    r"--mode=doctor": "minutes; tests/tools/test_doctor.py has fewer shapes",
    r"--distributed": "needs four machines; tests/training/test_processes.py has one",
}
RUN = [line for line in COMMANDS if not any(re.search(why, line) for why in NOT_RUN)]


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN)
def test_commands_run(
    line: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(images / "one.png")
    for name in ("runs/digits", "runs/a", "runs/b"):
        shutil.copytree(trained, tmp_path / name)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    start = next(start for start in STARTS if line.startswith(start))
    words = shlex.split(line.removeprefix(start).replace("FOLDER", "images"), comments=True)
    assert main(["mgnet", *words]) == 0


def test_what_is_not_run_is_there() -> None:
    assert all(any(re.search(why, line) for line in COMMANDS) for why in NOT_RUN)
    assert len(RUN) >= 8


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
