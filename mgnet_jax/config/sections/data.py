"""Keys of the data set: where it is, what is held out of it, its scale and its augmentation."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import ConfigError, Key, at_least, choice, per_channel
from mgnet_jax.data import sources

KEYS = {
    "data.name": choice("digits", tuple(sources.INFO), "data set"),
    "data.dir": Key("", "folder of its files; empty: $MGNET_DATA"),
    "data.source": choice("files", ("files", "tfds"), "published files, or tensorflow-datasets"),
    "data.validation": at_least(
        0, 0, "training images held out; if any, they and never the test set choose the best epoch"
    ),
    "data.last_batch": choice(
        "drop",
        ("drop", "use"),
        "images left over at an epoch's end: not used in it, or a smaller batch",
    ),
    "data.crop_padding": at_least(
        0, 4, "zero pixels around an image before a random crop; 0: none"
    ),
    "data.flip": Key(True, "random horizontal flips"),
    "data.mean": per_channel(
        "subtracted from the pixels / 255, a number a channel; (): the data set's own"
    ),
    "data.std": per_channel("what that is divided by; (): the data set's own", above=0),
}


def check(config: ConfigDict, devices: int) -> None:
    """Raises ConfigError if the data set is not one of which all this can be asked."""
    info, data = sources.INFO[config.data.name], config.data
    batch, held_out = config.train.batch_size, data.validation
    if batch + held_out > info.train_size:
        raise ConfigError(
            f"config.train.batch_size={batch} and config.data.validation={held_out} are together "
            f"more than the {info.train_size} training images of {info.name}"
        )
    if 0 < held_out < info.num_classes:
        raise ConfigError(
            f"config.data.validation={held_out} must be 0 or at least one image a class "
            f"({info.num_classes})"
        )
    for name in ("mean", "std"):
        if len(data[name]) not in (0, info.image_shape[2]):
            raise ConfigError(
                f"config.data.{name}={data[name]} must have as many numbers as the images of "
                f"{info.name} have channels, {info.image_shape[2]}, or be () for the set's own"
            )
    if data.crop_padding > min(info.image_shape[:2]):
        raise ConfigError(
            f"config.data.crop_padding={data.crop_padding} is larger than the images of "
            f"{info.name} {info.image_shape[:2]}"
        )
