"""Who may import whom and what each file may hold, read from the sources."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgnet_jax.config import KEYS

PACKAGE = Path(__file__).parent.parent / "mgnet_jax"
FLOORS = [
    {"data", "models"},
    {"config", "weights", "analysis"},
    {"training"},
    {"trained", "reports"},
    {"tools"},
    {"commandline"},
    {"main"},
]
"""A module imports from floors below its own, or from its own folder."""
ONE_DOOR = {
    "orbax": "training/checkpoint.py",
    "matplotlib": "training/curves.py reports/plots.py",
    "tensorboardX": "training/metrics.py",
    "tensorflow_datasets": "data/photographs/tfds.py",
    "array_record": "data/photographs/tfds.py",
    "grain": "data/stream.py",
    "cv2": "data/photographs/codec.py",
    "simplejpeg": "data/photographs/codec.py",
    "safetensors": "weights/folder.py",
    "torch": "weights/pytorch.py",
    "wandb": "training/tracking.py",
    "trackio": "training/tracking.py",
    "huggingface_hub": "trained/hub.py",
    "jax2onnx": "trained/onnx.py",
    "scipy": "data/photographs/archives.py analysis/linear.py",
    "absl": "commandline.py data/stream.py",  # grain's workers ask for absl's flags
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
        doors = (door or str(path.relative_to(PACKAGE))).split()
        assert str(path.relative_to(PACKAGE)) in doors, f"{name} imports {module}"


@each_module
def test_only_progress_prints(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    prints = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "print"]
    assert len(prints) == (name == "training.progress")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_every_folder_is_a_package() -> None:
    """setup.py finds only those."""
    folders = {path.parent for path in PATHS}
    assert folders == {path.parent for path in PACKAGE.rglob("__init__.py")}
    assert len(folders) >= 7


FAMILY = re.compile(r"MgNet|DataFeature|[Pp]re[-_ ]?[Aa]ct|ResNet|WRN|AlexNet|VGG")


def words(tree: ast.Module) -> Iterator[str]:
    """The identifiers and the texts of a file, without its docstrings."""
    docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value
        else:
            fields = dict(ast.iter_fields(node)).values()
            names = [x for f in fields for x in (f if isinstance(f, list) else [f])]
            yield from (x for x in names if isinstance(x, str))


@each_module
def test_only_models_name_a_family_of_networks(name: str) -> None:
    """A new family is a file there; the rest of the package asks for networks by their notation."""
    named = [word for word in words(ast.parse(MODULES[name].read_text())) if FAMILY.search(word)]
    if name == "config.sections.model":
        assert named == [KEYS["model.spec"].default]
    elif not name.startswith("models"):
        assert named == []


def test_the_words_of_a_file_are_all_that_it_names() -> None:
    code = '''
"""ResNet 1."""  # ResNet 2
from a import VGG16 as b, c as AlexNet
def f(x: ResNet, PreAct=1, *, y="MgNet[1]"): return g.WideResNet(x, MgNet=f"{y}ResNet 3")
class PreActResNet: "VGG"
A = 1
"""MgNet of an attribute."""
'''
    found = {word for word in words(ast.parse(code)) if FAMILY.search(word)}
    assert found == {
        *("VGG16", "AlexNet", "ResNet", "PreAct", "MgNet[1]", "WideResNet", "MgNet"),
        *("ResNet 3", "PreActResNet"),
    }


def test_data_workers_need_no_jax() -> None:
    """All of data/ but what runs inside jit; and main, which spawned processes read."""
    jax_too = {"data.augment", "data.rand_augment", "data.stream"}  # grain imports it
    names = [n for n in MODULES if n.startswith("data.") and n not in jax_too]
    assert len(names) > 15
    imported = "".join(f"import mgnet_jax.{name}; " for name in [*names, "main"])
    code = f"import sys; {imported}sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_data_workers_do_not_start_jax() -> None:
    code = (
        "import sys; from mgnet_jax.data import stream; from jax._src import xla_bridge; "
        "sys.exit(xla_bridge.backends_are_initialized())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_is_light_and_create_is_there() -> None:
    code = (
        "import sys, mgnet_jax; assert 'jax' not in sys.modules; "
        "assert mgnet_jax.create('MgNet[1]-[2]-B^l', 2).num_classes == 2"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
