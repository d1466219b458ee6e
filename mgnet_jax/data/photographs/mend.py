"""Images that are no JPEGs, read by Pillow alone and made gray or RGB of 8 bits."""

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import jpeg as jpegs

_FORMATS = ("PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000")  # none that runs a program
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")


def read(raw: bytes) -> tuple[Image.Image, str]:
    """Decodes what is no JPEG.

    Returns:
      The image, upright, as mode L or RGB, and in a few words what it was.

    Raises:
      DataError: it cannot be decoded as a whole, in a few words.
    """
    if not raw.strip(b"\0"):
        raise DataError(f"nothing but {len(raw)} zero bytes" if raw else "an empty file")
    # Pillow warns of what is answered here by an error or mended; a filter for good, and for
    # Pillow alone, since warnings.catch_warnings would reach into other threads
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(io.BytesIO(raw), formats=_FORMATS)
        kind = image.format or ""
        jpegs.check_size(image.height, image.width)
        if kind == "PNG":  # its checksums
            image.verify()
            image = Image.open(io.BytesIO(raw), formats=(kind,))
            if image.mode != "P":
                _scale_clear(image.info, depth=raw[24])
        image.load()  # turns a TIFF upright
        orientation = jpegs.orientation_of(image.info.get("exif", b"")) if kind != "TIFF" else 1
        mended = [kind, *([f"EXIF orientation {orientation}"] if orientation > 1 else [])]
        pixels = jpegs.upright(eight_bits(image), orientation)
        if _has_frames(image):
            mended.append("the first of its frames")
        return pixels, ", ".join(mended)
    except Image.UnidentifiedImageError:
        begin = raw[:12].decode("ascii", "backslashreplace")
        raise DataError(f"no image that Pillow reads: it begins with {begin!r}") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        raise DataError(f"it cannot be decoded: {jpegs.reason(error)}") from error


def _scale_clear(info: dict[Any, Any], depth: int) -> None:
    """Brings the colour of a PNG that means transparency to 8 bits, as its pixels are."""
    clear = info.get("transparency")
    if isinstance(clear, tuple) and depth == 16:
        info["transparency"] = tuple(value >> 8 for value in clear)
    elif isinstance(clear, int) and depth in (2, 4):
        info["transparency"] = clear * 255 // ((1 << depth) - 1)


def _has_frames(image: Image.Image) -> bool:
    """Whether a loaded file has a second frame, as far as can be told."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is damaged
        return True


def eight_bits(image: Image.Image) -> Image.Image:
    """Returns a loaded image of any mode as L or RGB, on white where it is transparent."""
    mode = image.mode
    clear = image.info.get("transparency")
    if mode in _SIXTEEN or (mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.int64)
        most, inverted = _sixteen_bits(image)
        levels = (np.clip(values, 0, most) * 255 + most // 2) // most
        levels = np.where(values == clear, 255, 255 - levels if inverted else levels)
        return Image.fromarray(levels.astype(np.uint8))
    if mode in ("I", "F"):
        raise DataError(f"pixels of {'32 bits' if mode == 'I' else 'floating point'}")
    if clear is not None or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("L" if mode[0] in "1L" else "RGB")
    return image.convert("L" if mode in ("1", "L") else "RGB")


def _sixteen_bits(image: Image.Image) -> tuple[int, bool]:
    """Returns the value of white, or of black if the second is true, of gray of up to 16 bits."""
    tags = getattr(image, "tag_v2", {})  # those of a TIFF, to which Pillow leaves it
    (bits, *_) = np.atleast_1d(tags.get(258, 16))
    return (1 << int(bits)) - 1, tags.get(262) == 0
