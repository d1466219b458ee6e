"""Photographs: whatever Pillow reads made a common JPEG, and JPEGs decoded and cropped.

`canonical` mends once what is no upright JPEG of 8 bits with 1 or 3 components, and refuses what
cannot be decoded; so all else meets JPEGs only. The two crops are those of training and of scoring
on ImageNet: C. Szegedy et al., "Going deeper with convolutions" (2015), as torchvision computes
them.

Nothing here keeps state, so threads and processes may call all of it.
"""

import functools
import importlib.util
import io
import math
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import jpeg as jpegs
from mgnet_jax.data.photographs import mend

DECODERS = ("auto", "fast", "pillow")

_RATIOS = 3 / 4, 4 / 3
_TRIES = 10


def canonical(raw: bytes, whole: bool = False) -> tuple[bytes, str]:
    """Makes a photograph an upright JPEG of 8 bits and 1 or 3 components.

    What the content says counts, and no name. A JPEG that is so already is returned as it is, by
    its header alone unless `whole`. Anything else is decoded by Pillow and encoded anew: quality
    95, colour at full resolution. CMYK becomes RGB as Pillow converts it; 16 bits are scaled to
    8; what is transparent is laid on white; of several frames the first is taken. Colour profiles
    are not applied.

    Args:
      raw: the content of a file.
      whole: decode the JPEG too, to find that data is missing or damaged. A file that has to be
        mended is always decoded.

    Returns:
      The JPEG, and in a few words what was mended, such as "PNG" or "EXIF orientation 6"; empty
      for a JPEG that is returned as it was.

    Raises:
      DataError: it cannot be decoded, or not as a whole, or it has an absurd size; the message
        says so in a few words, and the caller which file it is.
    """
    if not raw.startswith(b"\xff\xd8"):
        image, was = mend.read(raw)
        return _encode(image), was
    header = jpegs.read_header(raw)
    jpegs.check_size(header.height, header.width)
    mended = [] if header.orientation == 1 else [f"EXIF orientation {header.orientation}"]
    if not header.common:
        mended.append("an uncommon coding")
    if header.channels not in (1, 3):
        mended.append("CMYK")
    if header.common and (whole or mended):
        jpegs.check_whole(raw, header)
    if not mended:
        return raw, ""
    image = mend.eight_bits(jpegs.load(raw, header))
    return _encode(jpegs.upright(image, header.orientation)), ", ".join(mended)


def _encode(image: Image.Image) -> bytes:
    """Returns an image, mode L or RGB, as a JPEG without comments or profiles."""
    jpegs.check_size(image.height, image.width)
    image.info = {}
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def find_decoder(word: str) -> str:
    """Returns the decoder, "fast" or "pillow", that a word of `DECODERS` means here.

    "auto" is "fast" where simplejpeg and OpenCV are installed.

    Raises:
      DataError: "fast" where one of them is missing.
    """
    found = {
        "simplejpeg": importlib.util.find_spec("simplejpeg"),
        "opencv-python-headless": importlib.util.find_spec("cv2"),
    }
    missing = [name for name, spec in found.items() if spec is None]
    if word == "fast" and missing:
        raise DataError(
            f"the fast decoder needs {' and '.join(missing)}: pip install 'mgnet_jax[images]', "
            "or choose 'pillow'"
        )
    return "pillow" if word == "pillow" or missing else "fast"


@functools.cache
def _fast() -> tuple[ModuleType, ModuleType]:
    """Returns simplejpeg and OpenCV, told to use one thread: the callers are the threads."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    return simplejpeg, cv2


def decode(jpeg: bytes, channels: int, decoder: str) -> np.ndarray:
    """Decodes a JPEG; both decoders give the same pixels.

    Args:
      jpeg: as `canonical` returns it; an orientation is not looked at.
      channels: 1 for gray, which is Pillow's mode L, 3 for RGB.
      decoder: "fast" or "pillow". What the fast one finds fault with, Pillow has to decode.

    Returns:
      uint8 (H, W, channels).

    Raises:
      DataError: it cannot be decoded, in a few words.
    """
    pixels = _decode_fast(jpeg, channels) if decoder == "fast" else None
    return _array(_load(jpeg, channels)) if pixels is None else pixels


def _decode_fast(jpeg: bytes, channels: int, height: int = 0, width: int = 0) -> np.ndarray | None:
    """Decodes with simplejpeg, to the smallest size of at least height x width that it can.

    Returns:
      uint8 (H, W, C), or None where it finds fault with the data.
    """
    try:
        pixels = _fast()[0].decode_jpeg(jpeg, "RGB", min_height=height, min_width=width)
    except Exception:
        return None
    return pixels if channels == 3 else _array(Image.fromarray(pixels).convert("L"))


def _load(jpeg: bytes, channels: int) -> Image.Image:
    """Decodes a JPEG with Pillow, as mode L or RGB."""
    header = jpegs.read_header(jpeg)
    jpegs.check_size(header.height, header.width)
    return jpegs.load(jpeg, header).convert("L" if channels == 1 else "RGB")


def _array(image: Image.Image) -> np.ndarray:
    """Returns the pixels of an image of mode L or RGB, uint8 (H, W, C)."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def random_crop(
    jpeg: bytes,
    size: tuple[int, int],
    channels: int,
    smallest_area: float,
    rng: np.random.Generator,
    decoder: str,
) -> np.ndarray:
    """Decodes a JPEG and resizes a random part of it, without a flip: a crop for training.

    Pillow does as torchvision's RandomResizedCrop, bilinear and antialiased. The fast decoder
    halves a part that is at least twice too large while it decodes, up to three times, and OpenCV
    does the rest; its pixels differ from Pillow's by less than one of 255 on average.

    Args:
      jpeg: as `canonical` returns it.
      size: (h, w) of the result.
      channels: 1 or 3.
      smallest_area: see `crop_box`.
      rng: `crop_box` draws from it, the same count of numbers for every photograph.
      decoder: "fast" or "pillow".

    Returns:
      uint8 (h, w, channels).

    Raises:
      DataError: it cannot be decoded, in a few words.
    """
    header = jpegs.read_header(jpeg)
    top, left, height, width = crop_box(header.height, header.width, smallest_area, rng)
    if decoder == "fast":
        scale = 1
        while scale < 8 and height >= 2 * scale * size[0] and width >= 2 * scale * size[1]:
            scale *= 2
        least = (0, 0) if scale == 1 else (-(-header.height // scale), -(-header.width // scale))
        pixels = _decode_fast(jpeg, channels, *least)
        if pixels is not None:
            rows = slice(round(top / scale), round((top + height) / scale))
            columns = slice(round(left / scale), round((left + width) / scale))
            return _resize_fast(pixels[rows, columns], size)
    image = _load(jpeg, channels).crop((left, top, left + width, top + height))
    return _array(image.resize(size[::-1], Image.Resampling.BILINEAR))


def _resize_fast(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with OpenCV, bilinear and nearly antialiased where a side is up to halved.

    Pillow's kernel is a triangle which shrinking s times makes s times wider, with a variance of
    s^2 / 6 pixels. OpenCV's stays 1 wide; three taps (a, 1 - 2 a, a) before it add 2 a. This takes
    half the time of OpenCV's own INTER_AREA and comes as near to Pillow's pixels.
    """
    cv2 = _fast()[1]
    shrinks = [part.shape[axis] / size[axis] for axis in (1, 0)]
    if max(shrinks) > 1.1:
        sides = [min(max(s * s - 1, 0) / 12, 0.25) for s in shrinks]
        taps = [np.array([a, 1 - 2 * a, a], np.float32) for a in sides]
        part = cv2.sepFilter2D(part, -1, *taps, borderType=cv2.BORDER_REPLICATE)
    channels = part.shape[2] if part.ndim == 3 else 1
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, channels)


def crop_box(
    height: int, width: int, smallest_area: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws the part of a photograph that a random crop shows.

    Its area is uniform in [smallest_area, 1] of the photograph's and its ratio of width to height
    log-uniform in [3/4, 4/3]. The first of ten draws that fits in is taken; otherwise the largest
    part in the middle whose ratio lies in these bounds.

    Returns:
      (top, left, height, width), in pixels.
    """
    draws, place = rng.random((_TRIES, 2)), rng.random(2)
    low, high = (math.log(ratio) for ratio in _RATIOS)
    for area, ratio in draws:
        area = height * width * (smallest_area + (1 - smallest_area) * area)
        ratio = math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    h = min(height, round(width / _RATIOS[0]))
    w = min(width, round(height * _RATIOS[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def central_crop(
    jpeg: bytes, size: tuple[int, int], shorter_side: int, channels: int
) -> np.ndarray:
    """Decodes a JPEG, resizes it and takes the middle: the crop for scoring, always by Pillow.

    Bit for bit torchvision's Resize(shorter_side) and CenterCrop(size) of a PIL image: bilinear
    and antialiased, the longer side rounded down, black around a photograph that is too small.

    Args:
      jpeg: as `canonical` returns it.
      size: (h, w) of the result.
      shorter_side: of the resized photograph, in pixels.
      channels: 1 or 3.

    Returns:
      uint8 (h, w, channels).

    Raises:
      DataError: it cannot be decoded, in a few words.
    """
    image = _load(jpeg, channels)
    shorter, longer = sorted(image.size)
    long_side = int(shorter_side * longer / shorter)
    small = (shorter_side, long_side) if image.width <= image.height else (long_side, shorter_side)
    image = image.resize(small, Image.Resampling.BILINEAR)
    margins = [max(wanted - had, 0) for wanted, had in zip(size[::-1], small, strict=True)]
    if any(margins):
        before, after = ([m // 2 for m in margins], [(m + 1) // 2 for m in margins])
        image = ImageOps.expand(image, (*before, *after), fill=0)
    top, left = round((image.height - size[0]) / 2), round((image.width - size[1]) / 2)
    return _array(image.crop((left, top, left + size[1], top + size[0])))
