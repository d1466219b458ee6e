"""The folder of a run: whose it is, and the configuration kept in it."""

from pathlib import Path

from ml_collections import ConfigDict

from mgnet_jax.config import ConfigError, differences, from_json
from mgnet_jax.training import checkpoint

CONFIG = "config.json"


def saved_config(workdir: Path) -> ConfigDict | None:
    """The configuration of the run in workdir; None where there is no run.

    Raises:
      ConfigError: its config.json is damaged.
    """
    saved = workdir / CONFIG
    try:
        return from_json(saved.read_text()) if saved.exists() else None
    except ConfigError as error:
        raise ConfigError(f"{saved}: {error}; give another --workdir") from None


def check_workdir(config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError if workdir is a file or holds a run with another configuration."""
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir={workdir} is a file; give a folder")
    saved = saved_config(workdir) if checkpoint.exist(workdir) else None
    if saved and (changed := differences(saved, config)):
        raise ConfigError(
            f"{workdir} holds a run with another configuration: {'; '.join(changed)}. "
            f"Give another --workdir, or the old values."
        )


def require_checkpoints(workdir: Path) -> None:
    """Raises CheckpointError if there is nothing to score in workdir."""
    if not checkpoint.exist(workdir):
        raise checkpoint.CheckpointError(
            f"there are no checkpoints in {workdir}; train first, or give the run's --workdir"
        )
