"""Networks on the Hugging Face Hub, against a folder that stands in for it."""

import importlib.machinery
import shutil
import sys
import types
from pathlib import Path

import pytest
from commands import command

import mgnet_jax
from mgnet_jax.weights.facts import WeightsError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in: a repository is a folder, a revision a folder beside it."""
    root = tmp_path / "hub"
    module = types.ModuleType("huggingface_hub")
    module.__spec__ = importlib.machinery.ModuleSpec("huggingface_hub", None)

    def create_repo(name: str, exist_ok: bool) -> None:
        (root / name).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(repo_id: str, folder_path: Path) -> str:
        shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}"

    def snapshot_download(name: str, revision: str | None) -> str:
        folder = root / (f"{name}@{revision}" if revision else name)
        if not folder.is_dir():
            raise FileNotFoundError(f"no repository {name}")
        return str(folder)

    for function in (create_repo, upload_folder, snapshot_download):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return root


def test_what_is_pushed_is_loaded_by_name(
    uninterrupted: Path, hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={tmp_path / 'out'}"
    assert command(uninterrupted, "--mode=export", "--push=me/digits", out) == 0
    assert "https://hub/me/digits" in capsys.readouterr().out
    assert mgnet_jax.load("hf://me/digits").spec == "MgNet[1,1]-[8]-B^l"
    shutil.copytree(hub / "me" / "digits", hub / "me" / "digits@v1")
    assert mgnet_jax.load("hf://me/digits@v1").facts.num_classes == 10
    with pytest.raises(
        WeightsError, match="hf://me/other cannot be fetched: no repository me/other"
    ):
        mgnet_jax.load("hf://me/other")


def test_without_the_package_it_is_a_message(
    uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command(uninterrupted, "--mode=export", "--push=me/digits") == 2
    assert "pip install 'mgnet_jax[hub]'" in capsys.readouterr().err
    assert not (uninterrupted / "export").exists()
