"""Keys of training: how long, and what one optimiser step sees."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, at_least, choice, within
from mgnet_jax.config.sections.data import trained_on
from mgnet_jax.data.info import Info
from mgnet_jax.data.order import Batches

KEYS = {
    "train.epochs": at_least(1, 150, "times through the training images"),
    "train.batch_size": at_least(1, 128, "images of one optimiser step, over all devices"),
    "train.accumulate": at_least(
        1, 1, "parts of a batch whose gradients are averaged one after the other, to save memory"
    ),
    "train.sharding": choice(
        "replicated",
        ("replicated", "sharded"),
        "of the state: a copy on every device, or large kernels in parts over the devices",
    ),
    "train.label_smoothing": within(0, 1, 0.0, "probability spread over all classes"),
    "train.on_nonfinite": choice(
        "stop",
        ("stop", "skip", "rollback"),
        "a loss or gradient that is not finite: stop; leave out the step; or back to the newest "
        "checkpoint, with other augmentation",
    ),
    "train.most_skipped": at_least(1, 20, "steps in a row that 'skip' leaves out before it stops"),
    "train.most_rollbacks": at_least(1, 3, "times that 'rollback' goes back before it stops"),
    "train.ema_decay": within(0, 1, 0.0, "of averaged weights, which are then scored; 0: none"),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if batches cannot be split into their parts over the devices."""
    batch, parts = config.train.batch_size, config.train.accumulate
    if batch % (parts * devices):
        raise ConfigError(
            f"config.train.batch_size={batch} must be divisible by config.train.accumulate={parts} "
            f"times {devices} devices; the nearest is "
            f"{max(1, round(batch / (parts * devices))) * parts * devices}"
        )
    check_last_batch(config, info, devices)
    train_size = trained_on(config.data, info)
    steps = Batches(train_size, batch, last_batch=config.data.last_batch).steps
    if steps * config.train.epochs >= 2**31:
        raise ConfigError(
            f"config.train.epochs={config.train.epochs} of {steps:,} steps are more than the "
            f"2**31 - 1 steps that can be counted: lower it to {(2**31 - 1) // steps}"
        )


def check_last_batch(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if an epoch's smaller batch cannot be split as the others are.

    Args:
      config: one whose other batches can be.
      info: its data set; the files may hold fewer images than were published.
      devices: devices that a batch is split over.
    """
    held_out, parts = config.data.validation, config.train.accumulate
    train_size = trained_on(config.data, info)
    left, rest = train_size % config.train.batch_size, train_size % (parts * devices)
    if config.data.last_batch == "use" and rest and config.data.train_images:
        raise ConfigError(
            f"config.data.last_batch='use' makes a batch of the {left} images left over of "
            f"config.data.train_images={train_size}, which must be divisible by "
            f"config.train.accumulate={parts} times {devices} devices: take {train_size - rest}"
        )
    if config.data.last_batch == "use" and rest:
        held_out += rest
        while held_out < info.num_classes:
            held_out += parts * devices
        raise ConfigError(
            f"config.data.last_batch='use' makes a batch of the {left} images left over of "
            f"{train_size}, which must be divisible by config.train.accumulate={parts} times "
            f"{devices} devices; set config.data.last_batch='drop' or, to hold images out, "
            f"config.data.validation={held_out}"
        )
