"""Keys of training: how long, and what one optimiser step sees."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, at_least, within

KEYS = {
    "train.epochs": at_least(1, 150, "epochs"),
    "train.batch_size": at_least(1, 128, "images of one optimiser step, over all devices"),
    "train.accumulate": at_least(
        1, 1, "parts of a batch whose gradients are averaged one after the other, to save memory"
    ),
    "train.label_smoothing": within(0, 1, 0.0, "probability spread over all classes"),
    "train.ema_decay": within(0, 1, 0.0, "of averaged weights, which are then scored; 0: none"),
}


def check(config: ConfigDict, devices: int) -> None:
    """Raises ConfigError if a batch cannot be split into its parts over the devices."""
    batch, parts = config.train.batch_size, config.train.accumulate
    if batch % (parts * devices):
        raise ConfigError(
            f"config.train.batch_size={batch} must be divisible by config.train.accumulate={parts} "
            f"times {devices} devices; the nearest is "
            f"{max(1, round(batch / (parts * devices))) * parts * devices}"
        )
