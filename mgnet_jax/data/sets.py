"""The data set of a configuration: facts before anything is read, then its images.

A small set is read whole, an `ImageSet`; photographs are read one at a time, `Photographs`, from
class folders, from ImageNet's archives or from a set that --mode=prepare or TensorFlow Datasets
made of them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mgnet_jax.data import sources
from mgnet_jax.data.info import DataError, Info, Listing
from mgnet_jax.data.photographs import archives, prepared, tfds
from mgnet_jax.data.published import WHERE
from mgnet_jax.data.sources import GRAY_MOMENTS, IMAGENET_MOMENTS, SETS, DataSet, folder_of


def are_photographs(data: Mapping[str, Any]) -> bool:
    """Whether the images are read one at a time, as needed, and cropped to a size.

    Args:
      data: the `data` section of a configuration.
    """
    return data["source"] == "folder" or SETS[data["name"]].load is None


def to_make(data: Mapping[str, Any]) -> tuple[Path, str, Callable[[Path], None]] | None:
    """What is to be made: the folder of sets, the name of the set, and what writes class folders.

    None if the data set is there, cannot be made on the spot, or no folder is given.

    Args:
      data: the `data` section of a configuration, which need not be valid.
    """
    source = SETS.get(str(data.get("name")))
    root = folder_of(data.get("dir"))
    if source is None or source.make is None or data.get("source") != "tfds" or root is None:
        return None
    if prepared.find_named(root, source.prepared) is not None:
        return None
    return root, source.prepared[0], source.make


def describe(data: Mapping[str, Any]) -> Info:
    """What is known of a data set without reading an image.

    Of photographs in a folder: what is found there. The sizes of others are those published.

    Args:
      data: the `data` section of a configuration.

    Raises:
      DataError: there are no such photographs, or no folder is given and nothing is published.
    """
    info = SETS[data["name"]].info
    if not are_photographs(data):
        return info
    info = _cropped(info, data)
    elsewhere = folder_of(data["dir"]) is None or to_make(data) is not None
    if elsewhere and info.num_classes and data["source"] != "folder":
        return info
    return _as_found(info, _listing(data))


def load(data: Mapping[str, Any]) -> DataSet:
    """The images of a data set, with facts that are true of what was found.

    Args:
      data: the `data` section of a configuration.

    Raises:
      DataError: they cannot be read.
    """
    if are_photographs(data):
        found = _listing(data)
        info = _as_found(_cropped(SETS[data["name"]].info, data), found)
        return DataSet(info, found.train, found.test, found.class_names)
    read = sources.load(data["name"], data["dir"], data["source"], verify=data["verify"])
    info = dataclasses.replace(read.info, train_size=len(read.train), test_size=len(read.test))
    return dataclasses.replace(read, info=info)


def load_test(data: Mapping[str, Any], info: Info, class_names: tuple[str, ...]) -> DataSet:
    """The test images of a data set that a network was trained on; the others need not be there.

    Args:
      data: the `data` section of a configuration.
      info: what is known of the data set.
      class_names: of the network; () if they are not known.

    Raises:
      DataError: they cannot be read, or are of other classes.
    """
    unlike = ""
    if not are_photographs(data):
        read = sources.load(data["name"], data["dir"], data["source"], ("test",), data["verify"])
        test, names, unlike = read.test, read.class_names, read.unlike
    else:
        found = _listing(data, class_names)
        test, names = found.test, found.class_names
    if class_names and names and names != class_names:
        raise DataError(
            f"config.data.dir={data['dir']!r} has the classes {_few(names)}, and the network was "
            f"trained on {_few(class_names)}"
        )
    info = dataclasses.replace(info, test_size=len(test))
    return DataSet(info, None, test, class_names or names, unlike)


def _few(names: Sequence[str]) -> str:
    """The names of classes, or the first of them and their number."""
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _as_found(info: Info, found: Listing) -> Info:
    """The facts with the classes and the sizes of what was found."""
    return dataclasses.replace(
        info,
        num_classes=len(found.class_names),
        train_size=0 if found.train is None else len(found.train),
        test_size=len(found.test),
    )


def _cropped(info: Info, data: Mapping[str, Any]) -> Info:
    """The facts with the size and the channels that the configuration asks for."""
    height, width, channels = info.image_shape
    if size := data["image_size"]:
        height, width = size, size
    mean, std = info.mean, info.std
    if (wanted := data["channels"] or channels) != channels:
        mean, std = GRAY_MOMENTS if wanted == 1 else IMAGENET_MOMENTS
    return dataclasses.replace(info, image_shape=(height, width, wanted), mean=mean, std=std)


def _listing(data: Mapping[str, Any], class_names: tuple[str, ...] = ()) -> Listing:
    """The photographs of the folder that is meant."""
    name, root = data["name"], folder_of(data["dir"])
    if data["source"] != "folder":
        return _list_prepared(name, root, class_names)
    if root is None:
        raise DataError(f"{name}: no folder is given that has one for each class: {WHERE}")
    return _list_folders(root, data["test_share"], class_names)


@lru_cache(maxsize=4)
def _list_folders(root: Path, test_share: float, class_names: tuple[str, ...]) -> Listing:
    return archives.list_source(root, test_share, class_names)


@lru_cache(maxsize=4)
def _list_prepared(name: str, root: Path | None, class_names: tuple[str, ...]) -> Listing:
    root = root or tfds.default_folder()
    folder = prepared.find(root, SETS[name].prepared or (name,))
    if folder is None:
        raise DataError(
            f"{name}: there is no prepared set in {root}. Make one with --mode=prepare "
            f"--source=FOLDER --out={root}, or say where one is with {WHERE}; to do without, "
            f"--config.data.source=folder"
        )
    return prepared.read_listing(folder, class_names)
