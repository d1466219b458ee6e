"""The published files of MNIST and CIFAR are known by the MD5 of their content, unpacked.

MD5 is what their publishers and torchvision give. Those of CIFAR-100's binary version were taken of
the images of its Python version, and those of MNIST of the four archives, after their own MD5s.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgnet_jax.data import published

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
    "test.bin": "4499cfba6c016c1be1438163640a0898",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""By the name of the file; those of class names are not among them."""


def differences(name: str, root: Path | None, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """What of a set that was read is not as published, for people.

    Args:
      name: of the set.
      root: as `published.find` takes it; None if its files were not those published.
      sizes: of each split that was read, its images and how many were published.

    Raises:
      DataError: a file cannot be read.
    """
    found = [
        f"{count:,} {split} images, of {expected:,}"
        for split, (count, expected) in sizes.items()
        if count != expected
    ]
    if root and (files := unlike(name, root, [*sizes])):
        listed = ", ".join(file.name for file in files)
        found.append(f"other content than those published: {listed} in {files[0].parent}")
    return found


def unlike(name: str, root: Path, splits: Sequence[str]) -> list[Path]:
    """The files of images and labels of splits whose content is not the published one.

    Args:
      name: "mnist", "cifar10" or "cifar100".
      root: as `published.find` takes it.
      splits: "train" and "test".

    Raises:
      DataError: a file cannot be read.
    """
    form, paths = published.find(name, root, splits)
    files = [file for split in splits for group in form.groups(split) for file in group]
    return [paths[file] for file in files if _md5(paths[file]) != MD5[file]]


def _md5(path: Path) -> str:
    return hashlib.md5(published.read_bytes(path), usedforsecurity=False).hexdigest()
