"""Keys of the data set: where it is, what is held out of it, its scale and its augmentation."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import (
    INFINITY,
    ConfigError,
    Key,
    at_least,
    choice,
    per_channel,
    within,
)
from mgnet_jax.data import published, sets, sources
from mgnet_jax.data.info import Info

KEYS = {
    "data.name": Key(
        "digits",
        "data set",
        lambda v: v in sources.SETS,
        "one of " + ", ".join(map(repr, sources.SETS)),
    ),
    "data.dir": Key("", "folder of its files; empty: $MGNET_DATA"),
    "data.source": choice(
        "files",
        ("files", "tfds", "folder"),
        "published files; prepared by --mode=prepare or tensorflow-datasets; a folder for each "
        "class, or ImageNet's archives",
    ),
    "data.verify": choice(
        "warn",
        ("warn", "strict", "off"),
        "images of MNIST or CIFAR that are not those published: say so, refuse them, do not look",
    ),
    "data.validation": at_least(
        0, 0, "training images held out; if any, they and never the test set choose the best epoch"
    ),
    "data.train_images": at_least(
        0,
        0,
        "training images used, chosen by the seed in proportion in each class; 0: all but those "
        "held out",
    ),
    "data.test_share": Key(
        0.1,
        "part of each class that is its test, of class folders without val/",
        lambda v: 0 < v < 1,
        "a number > 0 and < 1",
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
    "data.alternate_flips": Key(
        False, "flips in turn: what is mirrored in one epoch is not in the next"
    ),
    "data.randaugment": at_least(
        0, 0, "operations of RandAugment on each image, one after the other; 0: none", bits=6
    ),
    "data.randaugment_magnitude": Key(
        9,
        "how strong RandAugment's operations are, 0 to 30",
        lambda v: 0 <= v <= 30,
        "a whole number from 0 to 30",
    ),
    "data.mixup": within(
        0, INFINITY, 0.0, "alpha of mixup: images of a batch added in pairs; 0: none"
    ),
    "data.cutmix": within(
        0, INFINITY, 0.0, "alpha of cutmix: a rectangle from another image of the batch; 0: none"
    ),
    "data.erasing": within(0, 1, 0.0, "probability that a rectangle of an image is erased"),
    "data.mean": per_channel(
        "subtracted from the pixels / 255, a number a channel; (): the data set's own"
    ),
    "data.std": per_channel("what that is divided by; (): the data set's own", above=0),
    "data.small_size": at_least(
        0, 0, "pixels that images are scaled to in the first epochs, for less work; 0: none"
    ),
    "data.small_epochs": at_least(0, 0, "epochs of data.small_size"),
    "data.image_size": at_least(
        0, 0, "pixels, of photographs when cropped; 0: the set's own", bits=14
    ),
    "data.channels": Key(
        0,
        "of photographs: 3, 1 for gray, or 0 for the set's own",
        lambda v: v in (0, 1, 3),
        "0, 1 or 3",
    ),
    "data.crop_area": Key(
        0.08,
        "smallest part of a photograph's area in a random crop; 1: the central crop of scoring",
        lambda v: 0 < v <= 1,
        "a number > 0 and <= 1",
    ),
    "data.shorter_side": at_least(
        0, 0, "pixels, of a photograph scaled to be scored; 0: 8/7 of data.image_size", bits=15
    ),
    "data.decoder": choice(
        "auto",
        ("auto", "fast", "pillow"),
        "of training photographs; fast: simplejpeg and OpenCV, auto: that where installed",
    ),
    "data.workers": at_least(
        0, 0, "processes that read photographs to train on; 0: threads", bits=12
    ),
    "data.threads": at_least(
        0, 0, "threads of each that reads; 0: the processors, shared out", bits=12
    ),
    "data.prefetch": at_least(1, 2, "batches of photographs kept ready on the device", bits=12),
}
PHOTOGRAPHS = (
    *("test_share", "image_size", "channels", "crop_area", "shorter_side"),
    *("decoder", "workers", "threads", "prefetch"),
)
"""Keys that mean nothing to a set that is read whole, and have their defaults there."""


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError if the data set is not one of which all this can be asked."""
    data = config.data
    batch, held_out = config.train.batch_size, data.validation
    if batch + held_out > info.train_size:
        raise ConfigError(
            f"config.train.batch_size={batch} and config.data.validation={held_out} are together "
            f"more than the {info.train_size} training images of {info.name}"
        )
    if data.train_images and not batch <= data.train_images <= info.train_size - held_out:
        raise ConfigError(
            f"config.data.train_images={data.train_images} must be 0 for all images, or at least "
            f"config.train.batch_size={batch} and at most the {info.train_size - held_out} that "
            f"{info.name} has to train on"
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
    if data.alternate_flips and not data.flip:
        raise ConfigError("config.data.alternate_flips=True needs config.data.flip=True")
    if bool(data.small_size) != bool(data.small_epochs):
        raise ConfigError(
            f"config.data.small_size={data.small_size} and config.data.small_epochs="
            f"{data.small_epochs}: set both, the pixels and for how many epochs, or leave both at 0"
        )
    if data.small_size and not 4 <= data.small_size < min(info.image_shape[:2]):
        raise ConfigError(
            f"config.data.small_size={data.small_size} must be at least 4 and less than the "
            f"images of {info.name} {info.image_shape[:2]}, or 0"
        )
    if data.small_epochs > config.train.epochs:
        raise ConfigError(
            f"config.data.small_epochs={data.small_epochs} is more than "
            f"config.train.epochs={config.train.epochs}"
        )
    if 0 < data.shorter_side < info.image_shape[0]:
        raise ConfigError(
            f"config.data.shorter_side={data.shorter_side} must be at least the size of the "
            f"images, {info.image_shape[0]}, or 0"
        )


def check_source(config: ConfigDict) -> None:
    """Raises ConfigError if a data set is asked for in a way that it cannot be had."""
    data = config.data
    if data.verify != "warn" and (sets.are_photographs(data) or data.name not in published.FORMS):
        raise ConfigError(
            f"config.data.verify={data.verify!r} is for {', '.join(published.FORMS)}, whose "
            f"published files are known: leave it at 'warn'"
        )
    if sets.are_photographs(data):
        if data.source == "files":
            raise ConfigError(
                f"config.data.source='files' is not for {data.name}: set it to 'folder' for a "
                f"folder of photographs for each class, or to 'tfds' for a prepared set"
            )
        return
    for name in PHOTOGRAPHS:
        if data[name] != KEYS[f"data.{name}"].default:
            raise ConfigError(
                f"config.data.{name}={data[name]} is for photographs, and {data.name} is read "
                f"whole: leave it at {KEYS[f'data.{name}'].default}"
            )


def trained_on(data: ConfigDict, info: Info) -> int:
    """The training images that are used: those not held out, or fewer where that is asked for."""
    return data.train_images or info.train_size - data.validation
