"""Exported networks on the Hugging Face Hub; the only place that knows it."""

import importlib.util
from pathlib import Path

from mgnet_jax.weights.facts import WeightsError

PREFIX = "hf://"
"""Before USER/NAME, in what `load` takes."""


def require() -> None:
    """Raises WeightsError if huggingface_hub is not installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError("the Hugging Face Hub needs: pip install 'mgnet_jax[hub]'")


def push(folder: Path, name: str) -> str:
    """Uploads an exported folder as USER/NAME, made if missing, and says where it is.

    Raises:
      WeightsError: it cannot be uploaded.
    """
    require()
    import huggingface_hub

    try:
        huggingface_hub.create_repo(name, exist_ok=True)
        return str(huggingface_hub.upload_folder(repo_id=name, folder_path=folder))
    except Exception as error:  # of the network, of rights, of names
        raise WeightsError(f"--push={name} failed, and {folder} is whole: {error}") from None


def fetch(name: str) -> Path:
    """The folder of a network that was pushed, on this machine.

    Args:
      name: USER/NAME, or USER/NAME@REVISION.

    Raises:
      WeightsError: there is no such network, or the Hub cannot be reached.
    """
    require()
    import huggingface_hub

    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision or None))
    except Exception as error:  # of the network, of rights, of names
        raise WeightsError(f"{name} cannot be fetched: {error}") from None
