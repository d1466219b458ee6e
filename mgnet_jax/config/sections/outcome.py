"""Keys of what a run shows and leaves: scores, checkpoints and records."""

from importlib.util import find_spec

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key, at_least, choice, within
from mgnet_jax.data.info import Info

KEYS = {
    "eval.batch_size": at_least(1, 512, "images scored at once; no effect on the result"),
    "eval.flip": Key(
        False, "score an image by its mean logits and its mirror image's; twice the work"
    ),
    "eval.shift": at_least(
        0,
        0,
        "half of an image's mean logits are of it shifted by so many pixels along the diagonal, "
        "both ways; three times the work; 0: none",
    ),
    "eval.every_epochs": at_least(1, 1, "epochs between scores; the last is always scored"),
    "checkpoint.every_steps": at_least(0, 0, "steps between checkpoints within epochs; 0: none"),
    "checkpoint.keep": at_least(1, 2, "newest checkpoints kept; the best one is kept besides"),
    "checkpoint.background": choice(
        "auto",
        ("auto", "on", "off"),
        "saving while training goes on, with a second copy of the state; auto: if that is large",
    ),
    "checkpoint.retry_minutes": within(
        0, 10_000, 10.0, "minutes in which saving is tried again, as on a full disk, before the end"
    ),
    "supervise.stall_minutes": within(
        0, 100_000, 30.0, "without progress, after which a run ends with exit code 75; 0: never"
    ),
    "supervise.require_memory": Key(
        True, "refuse what by the estimate cannot fit the memory of a device"
    ),
    "log.every_steps": at_least(1, 50, "steps of one record of the metrics"),
    "log.measures": Key("", "what is measured besides, as in 'top5,grad_norm'"),
    "log.tensorboard": Key(False, "also write TensorBoard events; needs tensorboardX"),
    "log.tracker": choice(
        "", ("", "wandb", "trackio"), "also show the run there; needs that package"
    ),
    "log.project": Key("mgnet_jax", "of the tracker, that the run belongs to"),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if TensorBoard or a tracker is asked for and not installed."""
    if config.log.tracker and find_spec(config.log.tracker) is None:
        raise ConfigError(
            f"config.log.tracker={config.log.tracker!r} needs: pip install {config.log.tracker}"
        )
    if config.log.tensorboard and find_spec("tensorboardX") is None:
        raise ConfigError("config.log.tensorboard=True needs: pip install tensorboardX")
