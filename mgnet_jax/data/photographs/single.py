"""One image file made what a network was trained on, whatever format it has."""

import numpy as np
from PIL import Image

from mgnet_jax.data.photographs import codec, mend
from mgnet_jax.data.photographs import jpeg as jpegs


def read_image(raw: bytes, shape: tuple[int, int, int], shorter_side: int) -> np.ndarray:
    """The pixels that the content of a file gives.

    Args:
      raw: the content: JPEG, PNG, GIF, WebP, BMP, TIFF, PPM or JPEG 2000.
      shape: (H, W, C) of the result.
      shorter_side: photographs are made as those that are scored: the shorter side scaled to so
        many pixels, then the middle taken. 0: the whole image is scaled to (H, W), bilinear and
        antialiased, if it has another size.

    Returns:
      uint8 (H, W, C).

    Raises:
      DataError: it cannot be decoded as a whole, in a few words.
    """
    height, width, channels = shape
    if shorter_side:
        jpeg, _ = codec.canonical(raw, whole=True)
        return codec.central_crop(jpeg, (height, width), shorter_side, channels)
    if raw.startswith(b"\xff\xd8"):
        jpeg, _ = codec.canonical(raw, whole=True)
        image = jpegs.load(jpeg, jpegs.read_header(jpeg))
    else:
        image, _ = mend.read(raw)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)
