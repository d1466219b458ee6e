"""The config files that come with the package."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_PACKAGE = Path(__file__).resolve().parent.parent
FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
"""Where they are: installed; in a checkout."""


def files() -> dict[str, Path]:
    """The files by name."""
    found = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.py"))}
    return dict(sorted(found.items()))


def load(name: str, *preset: str) -> ConfigDict:
    """The configuration of such a file, of its default preset or of another."""
    return runpy.run_path(str(files()[name]))["get_config"](*preset)
