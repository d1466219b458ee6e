"""What the images of a split are known by, so that a run notices when they are others."""

import hashlib

from mgnet_jax.data.info import ImageSet, Photographs


def fingerprint(split: ImageSet | Photographs | None) -> str:
    """The SHA-256 of a split, 64 hexadecimal digits; "" of one that is not there.

    Of images in memory it is that of every pixel and label; of photographs, that of what they are
    called and labelled, see `Photographs.traits`: to read them all would take as long as an epoch.
    """
    if split is None:
        return ""
    digest = hashlib.sha256()
    if isinstance(split, ImageSet):
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(array.tobytes())
    else:
        for trait in split.traits():
            digest.update(trait)
    return digest.hexdigest()
