"""What a JPEG says of itself: its header, read marker by marker, and whether its data is all there.

The markers are those of ITU-T T.81, Annex B; the orientation is that of Exif 2.3, 4.6.4. Reading a
header takes microseconds and decodes nothing.
"""

import dataclasses
import io
import re
import struct

import numpy as np
from PIL import Image

from mgnet_jax.data.info import DataError

MOST_PIXELS = 89_478_485
"""Of a photograph: what Pillow takes for a decompression bomb is more."""
LONGEST_SIDE = 65_500
"""Of a JPEG that libjpeg reads or writes."""

LONGEST_RATIO = 200
"""Of the sides: a strip would become too large where its shorter side grows."""

_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_HUFFMAN = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive: what every decoder knows
_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}
_KEPT = {0xE0, 0xEE}  # of the application's markers: JFIF and Adobe say what the colours are
_IN_THE_DATA = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # the first marker that ends it
_MARK = re.compile(rb"\xff[\xd0-\xd7]")
_BEFORE_A_MARK = re.compile(rb"(?=\xff[\xd0-\xd7])")
_TAIL = 16  # bytes of a scan that may be too many before it counts as damage
_PAD = 12 * b"\xaa"  # more than the 8 that libjpeg looks ahead
_GAP = bytes(32)  # of a file that was not written as a whole
_CUT = 64  # bytes of a scan that a picture changes without
_FLIPS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a JPEG.

    Attributes:
      height, width: in pixels.
      channels: the number of components: 1 gray, 3 colour, 4 CMYK or YCCK.
      common: 8 bits, Huffman coded, baseline, extended or progressive: every decoder reads it.
      orientation: 1 upright, 2 to 8 as Exif numbers the others; 1 where none is said.
      restarts: whether restart markers may divide the data.
      bare: the header's bytes without what says nothing of the pixels (Exif, profiles, comments).
      start: the offset at which the data of the first scan begins.
    """

    height: int
    width: int
    channels: int
    common: bool
    orientation: int
    restarts: bool
    bare: bytes
    start: int


def read_header(raw: bytes) -> Header:
    """Reads all markers up to the first scan.

    Raises:
      DataError: they are none, or not all there; in a few words, without a file's name.
    """
    if raw[:2] != b"\xff\xd8":
        raise DataError("no JPEG")
    frame, orientation, restarts, kept, at = None, 0, False, [b"\xff\xd8"], 2
    try:
        while True:
            if raw[at] != 0xFF:
                raise DataError("a JPEG with a damaged header")
            marker = raw[at + 1]
            if marker == 0xFF:  # one more byte to fill a gap
                at += 1
                continue
            if marker in _NO_LENGTH:
                at += 2
                continue
            end = at + 2 + (raw[at + 2] << 8 | raw[at + 3])
            if end < at + 4 or marker == 0xD9:
                raise DataError("a JPEG with a damaged header")
            if end > len(raw):
                raise IndexError
            if marker == 0xE1:
                orientation = orientation or _exif_in(raw, at + 4, end)
            elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker in _KEPT:
                kept.append(raw[at:end])
            if marker in _SIZES and frame is None:
                frame = marker, *struct.unpack_from(">BHHB", raw, at + 4)
            elif marker == 0xDD:
                restarts = raw[at + 4 : at + 6] != b"\0\0"
            at = end
            if marker == 0xDA:
                break
    except (IndexError, struct.error):
        raise DataError("a JPEG that ends in its header") from None
    if frame is None:
        raise DataError("a JPEG with a damaged header")
    kind, bits, height, width, channels = frame
    common = kind in _HUFFMAN and bits == 8
    bare = b"".join(kept)
    return Header(height, width, channels, common, orientation or 1, restarts, bare, at)


def check_size(height: int, width: int) -> None:
    """Refuses the size of no photograph: empty, or more than a decoder should be asked for.

    Raises:
      DataError: in a few words.
    """
    shorter, longer = sorted((height, width))
    if shorter < 1 or longer > min(LONGEST_SIDE, LONGEST_RATIO * shorter):
        found = "no photograph's shape"
    elif height * width > MOST_PIXELS:
        found = f"more than {MOST_PIXELS} pixels"
    else:
        return
    raise DataError(f"a size of {width} x {height}: {found}")


def _exif_in(raw: bytes, start: int, end: int) -> int:
    """Returns the orientation in a segment of the application; 0 if it is no Exif."""
    return orientation_of(raw[start:end]) if raw[start : start + 6] == b"Exif\0\0" else 0


def orientation_of(exif: bytes) -> int:
    """Returns the orientation, 1 to 8, in a block of Exif; 1 where none is said, or none that is.

    Only the entries of the first directory are read, so that a block that is cut elsewhere does
    not matter.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == 0x0112:
                form = {1: "B", 3: "H", 4: "I"}.get(kind, "H")
                (value,) = struct.unpack_from(order + form, exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turns an image such that what Exif calls its orientation becomes 1."""
    return image.transpose(_FLIPS[orientation]) if orientation in _FLIPS else image


def load(jpeg: bytes, header: Header) -> Image.Image:
    """Decodes a JPEG with Pillow, mode L or RGB; nothing outside the pixels is looked at.

    So Pillow has nothing to warn of: what it warns of is Exif, other pictures in the file, size.

    Raises:
      DataError: it cannot be decoded, in a few words.
    """
    return _load(io.BytesIO(header.bare + jpeg[header.start :]))


def _load(file: io.BytesIO) -> Image.Image:
    """Decodes a file of a bare JPEG; whatever Pillow raises becomes a `DataError`."""
    try:
        image = Image.open(file, formats=["JPEG"])
        image.load()
    except Exception as error:
        raise DataError(f"a JPEG that cannot be decoded: {reason(error)}") from error
    return image


def _pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(_load(io.BytesIO(jpeg)))


def reason(error: Exception) -> str:
    """Returns what an error of Pillow says, in one line, without a memory address."""
    text = re.sub(r"\s*<?_io\.\w+ object at \w+>?", "", str(error)).strip()
    return " ".join(text.split()) or type(error).__name__


class _Tail(io.BytesIO):
    """A file of which a reader gets no byte from `limit` on in the same call as one before it."""

    limit: int
    reached = False

    def read(self, size: int | None = -1) -> bytes:
        """Reads at most `size` bytes."""
        left = self.limit - self.tell()
        if left > 0:
            return super().read(left if size is None or size < 0 else min(size, left))
        self.reached = True
        return super().read(size)


def check_whole(jpeg: bytes, header: Header) -> None:
    """Decodes a JPEG to find what is missing in it, or too much.

    Pillow finds a file that ends too early, but says nothing of data that runs out before its end
    marker, and of data that is left when the picture is complete. That is what damage in the
    middle leads to: Huffman codes are of varying length, and the decoder loses count. Damage after
    which the count is right again by chance is not found, unless it is a row of zeros, nor is all
    that of a progressive one.

    Raises:
      DataError: in a few words.
    """
    scans = _scans(jpeg, header.start)
    start, end = scans[0]
    if jpeg.find(_GAP, start, end) >= 0 and not _zeros_are_flat(header.bare):
        raise DataError("a damaged JPEG: there are zeros in the middle of its data")
    if len(scans) == 1 and not header.restarts:
        # without an end marker, so that the decoder must ask for more where data is missing
        file = _Tail(header.bare + jpeg[start:end] + _PAD)
        file.limit = len(header.bare) + max(end - start - _TAIL, 0)
        _load(file)
        if not file.reached:
            raise DataError("a damaged JPEG: its picture is complete before its data ends")
        if end == len(jpeg):
            load(jpeg, header)
        return
    image, longer, at = np.asarray(load(jpeg, header)), [header.bare], header.start
    for start, end in scans:
        longer += [jpeg[at:start], _BEFORE_A_MARK.sub(_PAD, jpeg[start:end]), _PAD]
        at = end
    longer.append(jpeg[at:])
    if not np.array_equal(_pixels(b"".join(longer)), image):
        raise DataError("a damaged JPEG: its data ends before its picture is complete")
    marks = [mark[1] & 7 for mark in _MARK.findall(jpeg[header.start : scans[0][1]])]
    if header.restarts and marks != [number & 7 for number in range(len(marks))]:
        raise DataError("a damaged JPEG: restart markers are missing in it")
    brightness = header.bare[header.bare.rfind(b"\xff\xda") + 5]  # the first component
    for begin, end in scans:
        # of a progressive one, only scans that always show: colour may be none, or rounded away
        details = jpeg[begin - 3] > 0 and jpeg[begin - 5] == brightness
        if details and end - begin > 16 * _CUT:
            cut = header.bare + jpeg[header.start : end - _CUT] + jpeg[end:]
            if np.array_equal(_pixels(cut), image):
                raise DataError("a damaged JPEG: its picture is complete before its data ends")


def _zeros_are_flat(bare: bytes) -> bool:
    """Whether zero bytes in the first scan are blocks of one colour, which there may be many of.

    Zeros are the code of the first symbol of a Huffman table. Where that of the coefficients above
    the mean is not the end of the block, zeros are blocks that are full of the same coefficient.
    """
    first: dict[int, int] = {}
    at = 2
    while True:
        marker, size = bare[at + 1], int.from_bytes(bare[at + 2 : at + 4])
        table, end = at + 4, at + 2 + size
        if marker == 0xC2:  # in the first scan of a progressive one there are means alone
            return True
        if marker == 0xDA:
            return first.get(0x10 | bare[at + 6] & 15, 0) == 0
        while marker == 0xC4 and table + 17 < end:
            first[bare[table]] = bare[table + 17]
            table += 17 + sum(bare[table + 1 : table + 17])
        at = end


def _scans(jpeg: bytes, start: int) -> list[tuple[int, int]]:
    """Returns where the data of each scan begins and ends, the first of which begins at `start`."""
    scans = []
    while True:
        found = _IN_THE_DATA.search(jpeg, start)
        scans.append((start, found.start() if found else len(jpeg)))
        while found and found[0][-1] not in (0xD9, 0xDA):  # tables between two scans
            at = found.end()
            found = _IN_THE_DATA.search(jpeg, at + int.from_bytes(jpeg[at : at + 2]))
        if not found or found[0][-1] == 0xD9:
            return scans
        start = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
