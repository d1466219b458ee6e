"""Who may import whom and what each file may hold, read from the sources."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mgnet_jax"
FLOORS = [  # a module imports from earlier lines, or from its own folder
    {"data", "models"},
    {"config"},
    {"training"},
    {"tools"},
    {"main"},
]
ONE_DOOR = {
    "orbax": "training/checkpoint.py",
    "matplotlib": "training/curves.py",
    "tensorboardX": "training/metrics.py",
    "tensorflow_datasets": "data/sources.py",
    "grain": "data/pipeline.py",
    "absl": "main.py",
}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


PATHS = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]
MODULES = {dotted(path): path for path in PATHS}
each_module = pytest.mark.parametrize("name", MODULES)


def imports(path: Path) -> Iterator[str]:
    """What a file imports anywhere in it, importlib.import_module("...") included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            assert isinstance(node.args[0], ast.Constant), f"{path}: import of what?"
            yield str(node.args[0].value)


def own_imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports: the longest name that is a module."""
    for module in imports(path):
        if module.split(".")[0] != "mgnet_jax":
            continue
        name = module.removeprefix("mgnet_jax").removeprefix(".")
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        assert name, f"{path} imports {module}"
        yield name


def floor(name: str) -> int:
    (found,) = (i for i, folders in enumerate(FLOORS) if name.split(".")[0] in folders)
    return found


@each_module
def test_imports_go_down(name: str) -> None:
    for other in own_imports(MODULES[name]):
        same_folder = name.split(".")[0] == other.split(".")[0]
        assert same_folder or floor(other) < floor(name), f"{name} imports {other}"


def test_no_imports_in_a_circle() -> None:
    graph = {name: set(own_imports(path)) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 40
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@each_module
def test_each_library_has_one_door(name: str) -> None:
    path = MODULES[name]
    for module in imports(path):
        door = ONE_DOOR.get(module.split(".")[0])
        assert door in (None, str(path.relative_to(PACKAGE))), f"{name} imports {module}"


def test_data_workers_need_no_jax() -> None:
    code = "import sys; from mgnet_jax.data import sources; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_is_light_and_create_is_there() -> None:
    code = (
        "import sys, mgnet_jax; assert 'jax' not in sys.modules; "
        "assert mgnet_jax.create('MgNet[1]-[2]-B^l', 2).num_classes == 2"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
