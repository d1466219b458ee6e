"""What is handed out: one version, a command, a container that can be built, a citation."""

import ast
import subprocess
import sysconfig
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml

import mgnet_jax

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def test_there_is_one_version() -> None:
    assert version("mgnet_jax") == mgnet_jax.__version__
    assert "version =" not in (ROOT / "pyproject.toml").read_text().split("[tool.")[0]


def test_the_command_is_the_module() -> None:
    (script,) = entry_points(group="console_scripts", name="mgnet")
    assert script.value == "mgnet_jax.main:command"
    done = subprocess.run([SCRIPTS / "mgnet", "--help"], capture_output=True, text=True, check=True)
    assert "--mode: <train|eval|predict|export|report|inspect|compare|reproduce|" in done.stdout
    done = subprocess.run([SCRIPTS / "mgnet", "--mode=nothing"], capture_output=True, check=False)
    assert done.returncode == 2


def test_the_dockerfile_is_linted() -> None:
    lint = [SCRIPTS / "hadolint", ROOT / "Dockerfile"]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_the_dockerfile_copies_is_there_and_enough() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "setup.py", "README.md", "mgnet_jax", "configs"} <= copied


def test_files_that_are_no_python_are_handed_out_too() -> None:
    (call,) = (
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    (listed,) = (word.value for word in call.keywords if word.arg == "package_data")
    patterns = {
        str(Path(*package.split("."), pattern))
        for package, names in ast.literal_eval(listed).items()
        for pattern in names
    }
    files = [path.relative_to(ROOT) for path in (ROOT / "mgnet_jax").rglob("*") if path.is_file()]
    others = [path for path in files if path.suffix not in (".py", ".pyc")]
    assert len(others) > 5
    assert [str(path) for path in others if not any(map(path.match, patterns))] == []


@pytest.mark.parametrize("key", ["title", "license", "authors", "references", "cff-version"])
def test_it_can_be_cited(key: str) -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())[key]
