"""Who may import whom, read from the sources: leaves import no other module of the package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mgnet_jax"
LAYERS = [  # a module imports from earlier lines, or from its own folder
    {"models", "data.published", "data.sources", "data.augment", "sharding", "optim", "log",
     "supervise"},
    {"config", "data.pipeline", "state", "summary"},
    {"steps", "checkpoint"},
    {"job"},
    {"train"},
    {"evaluate"},
    {"main"},
]  # fmt: skip
ONE_DOOR = {
    "orbax": {"checkpoint.py"},
    "tensorflow_datasets": {"data/sources.py"},
    "tensorboardX": {"log.py"},
    "matplotlib": {"log.py"},
    "grain": {"data/pipeline.py"},
    "absl": {"main.py"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name: str) -> int | None:
    for i, names in enumerate(LAYERS):
        if any(name == known or name.startswith(known + ".") for known in names):
            return i
    return None


MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    if name == "data":
        return
    own, folder = layer(name), name.split(".")[0]
    assert own is not None, f"{name} has no layer: put it into LAYERS"
    for module in imports(path):
        if module.startswith("mgnet_jax."):
            other = module.removeprefix("mgnet_jax.")
            assert layer(other) is not None, f"{name} imports {other}, which has no layer"
            same_folder = other.split(".")[0] == folder != other and folder in ("models", "data")
            assert layer(other) < own or same_folder, f"{name} imports {other}"
        library = module.split(".")[0]
        if library in ONE_DOOR:
            assert str(path.relative_to(PACKAGE)) in ONE_DOOR[library], f"{name}: {module}"


def test_data_workers_need_no_jax() -> None:
    code = "import sys; from mgnet_jax.data import sources; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_is_light_and_create_is_there() -> None:
    code = (
        "import sys, mgnet_jax; assert 'jax' not in sys.modules; "
        "assert mgnet_jax.create('MgNet[1]-[2]-B^l', 2).num_classes == 2"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
