"""Photographs: whatever is no common JPEG becomes one that shows the same, or is refused."""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs import codec
from mgnet_jax.data.photographs import jpeg as jpegs
from mgnet_jax.data.photographs.codec import canonical, central_crop, crop_box, decode, random_crop


def scene(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """A smooth picture with other colours in every corner, and some grain: uint8 (H, W, 3)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    grain = np.random.default_rng(seed).normal(scale=6, size=(height, width, 1))
    picture = np.stack([230 * x, 230 * y, 200 - 150 * x * y], -1) + 12 + grain
    return picture.clip(0, 255).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


SCENE = scene()
PICTURE = Image.fromarray(SCENE)
GRAY = PICTURE.convert("L")
JPEG = saved(PICTURE, "JPEG", quality=90)


def shown(jpeg: bytes) -> np.ndarray:
    """The pixels of a JPEG that has to be a common one, upright."""
    again, mended = canonical(jpeg, whole=True)
    assert (again, mended) == (jpeg, "")
    header = jpegs.read_header(jpeg)
    image = Image.open(io.BytesIO(jpeg))
    assert image.mode == {1: "L", 3: "RGB"}[header.channels]
    assert (header.height, header.width) == (image.height, image.width)
    assert not image.getexif()
    return np.asarray(image)


def assert_same(found: np.ndarray, expected: np.ndarray, off: float = 3.0) -> None:
    """Equal but for what a JPEG of quality 95 loses: on average, and nowhere by much."""
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.mean() < off
    assert np.percentile(difference, 99) < 8 * off


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True, "quality": 30},
        {"restart_marker_rows": 1},
        {"comment": b"a comment", "dpi": (300, 300)},
        {"icc_profile": bytes(200_000)},
        {"exif": Image.Exif()},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_common_jpeg_stays_as_it_is(options: dict[str, Any], whole: bool) -> None:
    for image in (PICTURE, GRAY):
        raw = saved(image, "JPEG", **options)
        for content in (raw, raw + b"what a camera left at the end"):
            assert canonical(content, whole) == (content, "")


def transposed(orientation: int) -> np.ndarray:
    """What a camera held another way stores of the scene, by the table of Exif's tag 0x0112."""
    flips: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p[:, ::-1].swapaxes(0, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p[::-1].swapaxes(0, 1),
    }
    # 6: the first row stored is the right side of the scene; 8: it is the left side, from below
    return np.ascontiguousarray(flips[orientation](SCENE))


def exif(orientation: int, order: str = ">") -> bytes:
    begin = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = struct.pack(order + "HHIHxx", 0x0112, 3, 1, orientation)
    return b"Exif\0\0" + begin + struct.pack(order + "IH", 8, 1) + entries + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_was_held_another_way_is_turned_upright(orientation: int) -> None:
    stored = Image.fromarray(transposed(orientation))
    for order in "<>":
        raw = saved(stored, "JPEG", quality=95, exif=exif(orientation, order))
        jpeg, mended = canonical(raw)
        assert mended == ("" if orientation == 1 else f"EXIF orientation {orientation}")
        assert_same(np.asarray(Image.open(io.BytesIO(jpeg))), SCENE)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        jpeg, mended = canonical(saved(stored, kind, exif=exif(orientation), **options))
        turned = kind != "TIFF" and orientation > 1  # Pillow turns a TIFF itself
        assert mended == kind + (f", EXIF orientation {orientation}" if turned else "")
        assert_same(shown(jpeg), SCENE)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"MM\0*",
        b"XX\0*\0\0\0\x08",
        exif(6)[6:-9],
        exif(9)[6:],
        exif(0)[6:],
        b"MM\0*\xff\xff\xff\xff",
        b"http://ns.adobe.com/xap/1.0/\0",
    ],
)
def test_an_exif_that_says_nothing_is_no_reason_to_touch_a_jpeg(block: bytes) -> None:
    raw = saved(PICTURE, "JPEG", exif=b"Exif\0\0" + block)
    assert canonical(raw, whole=True) == (raw, "")
    assert decode(raw, 3, "pillow").shape == SCENE.shape


def palette() -> Image.Image:
    return PICTURE.quantize(250)


def sixteen(kind: str = "PNG", **options: Any) -> bytes:
    """The gray scene with values from 3000 to about 60000, as 16 bits."""
    values = (np.asarray(GRAY).astype(np.uint16) * 257).astype(np.uint16)
    return saved(Image.fromarray(values), kind, **options)


OTHERS: list[tuple[str, bytes, np.ndarray]] = [
    ("PNG", saved(PICTURE, "PNG"), SCENE),
    ("PNG", saved(GRAY, "PNG"), np.asarray(GRAY)),
    ("PNG", saved(palette(), "PNG"), np.asarray(palette().convert("RGB"))),
    ("PNG", sixteen(), np.asarray(GRAY)),
    ("TIFF", sixteen("TIFF"), np.asarray(GRAY)),
    ("TIFF", sixteen("TIFF", tiffinfo={262: 0}), 255 - np.asarray(GRAY)),
    ("PPM", sixteen("PPM"), np.asarray(GRAY)),
    ("GIF", saved(palette(), "GIF"), np.asarray(palette().convert("RGB"))),
    ("WEBP", saved(PICTURE, "WEBP", lossless=True), SCENE),
    ("BMP", saved(PICTURE, "BMP"), SCENE),
    ("TIFF", saved(PICTURE, "TIFF", compression="tiff_lzw"), SCENE),
    ("TIFF", saved(PICTURE.convert("CMYK"), "TIFF"), SCENE),
    ("CMYK", saved(PICTURE.convert("CMYK"), "JPEG", quality=95), SCENE),
]


@pytest.mark.parametrize(("kind", "raw", "expected"), OTHERS)
def test_other_formats_become_jpegs_that_show_the_same(
    kind: str, raw: bytes, expected: np.ndarray
) -> None:
    jpeg, mended = canonical(raw)
    assert mended == kind
    assert_same(shown(jpeg), expected)


def test_of_a_film_the_first_picture_is_taken() -> None:
    other = Image.fromarray(255 - SCENE)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        raw = saved(PICTURE, kind, save_all=True, append_images=[other, PICTURE])
        jpeg, mended = canonical(raw)
        assert mended == f"{kind}, the first of its frames"
        assert_same(shown(jpeg), SCENE, off=8)


def test_what_is_transparent_lies_on_white() -> None:
    alpha = np.full(SCENE.shape[:2], 255, np.uint8)
    alpha[:64] = 0
    alpha[64:96] = 51
    share = alpha[..., None] / 255
    for base in (PICTURE, GRAY):
        pixels = np.asarray(base).reshape(*alpha.shape, -1)
        expected = (pixels * share + 255 * (1 - share)).squeeze()
        image = base.copy()
        image.putalpha(Image.fromarray(alpha))
        assert_same(shown(canonical(saved(image, "PNG"))[0]), expected)
    flat = Image.new("P", (64, 64), 1)
    flat.putpalette([0, 0, 0, 200, 0, 0])
    flat.paste(0, (0, 0, 32, 64))
    for kind, clear in (("PNG", 0), ("PNG", b"\0\xff"), ("GIF", 0)):
        pixels = shown(canonical(saved(flat, kind, transparency=clear))[0])
        assert pixels[:, :24].min() > 245
        assert_same(pixels[:, 40:], np.broadcast_to([200, 0, 0], (64, 24, 3)))


def test_the_colour_of_a_png_that_is_transparent_has_its_depth() -> None:
    levels = np.repeat(np.array([[0, 96, 255]], np.uint8), 48, 0).repeat(32, 1)

    def png(depth: int, kind: int, row: bytes, clear: bytes) -> bytes:
        header = struct.pack(">IIBBBBB", 96, 48, depth, kind, 0, 0, 0)
        parts = (b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress((b"\0" + row) * 48))
        chunks = [
            struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c))
            for n, c in (*parts, (b"IEND", b""))
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    expected = np.where(levels == 0, 255, levels)
    four = bytes([0x00] * 16 + [0x66] * 16 + [0xFF] * 16)
    jpeg, _ = canonical(png(4, 0, four, b"\0\0"))
    assert_same(shown(jpeg), np.where(levels == 96, 102, expected))
    jpeg, _ = canonical(png(4, 0, four, b"\0\x0f"))
    assert_same(shown(jpeg), np.where(levels == 96, 102, levels))
    sixteen_bits = (levels[0].astype(int) * 256 + 17).astype(">u2")
    for clear in (0x0011, 0x6011):
        wide = np.where(levels == (clear >> 8), 255, levels)
        jpeg, _ = canonical(png(16, 0, sixteen_bits.tobytes(), struct.pack(">H", clear)))
        assert_same(shown(jpeg), wide)
        row = sixteen_bits.repeat(3).tobytes()
        jpeg, _ = canonical(png(16, 2, row, struct.pack(">HHH", clear, clear, clear)))
        assert_same(shown(jpeg), wide[..., None].repeat(3, 2))


@pytest.mark.parametrize("levels", [0, 1, 127, 128, 129, 255, 256, 300, 32767, 32768, 65534, 65535])
def test_sixteen_bits_are_scaled_not_cut(levels: int) -> None:
    raw = saved(Image.fromarray(np.full((16, 16), levels, np.uint16)), "PNG")
    assert np.unique(shown(canonical(raw)[0])).tolist() == [(levels * 255 + 32767) // 65535]


REFUSED: list[tuple[bytes, str]] = [
    (b"", "an empty file"),
    (bytes(9000), "nothing but 9000 zero bytes"),
    (b"<!DOCTYPE html><html>", "no image that Pillow reads: it begins with '<!DOCTYPE ht'"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that Pillow reads"),
    (JPEG[:2], "a JPEG that ends in its header"),
    (JPEG[:300], "a JPEG that ends in its header"),
    (b"\xff\xd8" + bytes(500), "a JPEG with a damaged header"),
    (b"\xff\xd8\xff\xd9\0\0", "a JPEG with a damaged header"),
    (saved(PICTURE, "PNG")[:-200], "it cannot be decoded: "),
    (saved(palette(), "GIF")[:-2000], "it cannot be decoded: image file is truncated"),
    (saved(PICTURE, "BMP")[:-200], "it cannot be decoded: image file is truncated"),
    (saved(PICTURE, "WEBP")[:-200], "cannot be decoded"),
    (saved(PICTURE, "TIFF")[:-2000], "it cannot be decoded: "),
    (saved(Image.new("F", (9, 9)), "TIFF"), "pixels of floating point"),
    (saved(Image.new("I", (9, 9)), "TIFF"), "pixels of 32 bits"),
    (saved(Image.new("L", (1001, 5)), "PNG"), "a size of 1001 x 5: no photograph's shape"),
    (saved(Image.new("L", (5, 1001)), "JPEG"), "a size of 5 x 1001: no photograph's shape"),
]


@pytest.mark.parametrize(("raw", "words"), REFUSED)
def test_what_is_no_photograph_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        canonical(raw)
    assert words in str(caught.value)
    assert "0x" not in str(caught.value)


def resized(raw: bytes, height: int, width: int) -> bytes:
    """A JPEG that says it has another size."""
    at = raw.index(b"\xff\xc0") + 5
    return raw[:at] + struct.pack(">HH", height, width) + raw[at + 4 :]


def test_sizes_that_no_photograph_has_are_refused_before_anything_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = saved(PICTURE, "PNG").replace(saved(PICTURE, "PNG")[16:29], header)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = bomb[:29] + crc + bomb[33:]
    for raw in (bomb, resized(JPEG, 12_000, 9_000), resized(JPEG, 65_535, 65_535)):
        with pytest.raises(DataError, match=r"size|bomb|pixels"):
            canonical(raw)
    for height, width in ((0, 160), (120, 0), (0, 0)):
        with pytest.raises(DataError, match=f"a size of {width} x {height}"):
            canonical(resized(JPEG, height, width))


LARGE = scene(400, 500, seed=1)
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 2},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_ends_early_is_found_by_decoding_it_whole(kind: str, mode: str) -> None:
    raw = saved(Image.fromarray(LARGE).convert(mode), "JPEG", **KINDS[kind])
    canonical(raw, whole=True)
    start = jpegs.read_header(raw).start
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        cut = raw[: start + int(share * (len(raw) - start))]
        for content in (cut, cut + b"\xff\xd9"):
            with pytest.raises(DataError, match="JPEG"):
                canonical(content, whole=True)
    cut = raw[: start + (len(raw) - start) // 2]
    if mode != "CMYK":  # that has to be decoded in any case
        assert canonical(cut) == (cut, "")
    with pytest.raises(DataError, match="truncated"):
        decode(cut, 3, "pillow")


@pytest.mark.parametrize("size", [40, 300, 2048])
@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_zeros_in_the_middle_of_a_jpeg_are_found(kind: str, size: int) -> None:
    raw = saved(Image.fromarray(LARGE), "JPEG", **KINDS[kind])
    start = jpegs.read_header(raw).start
    for at in np.random.default_rng(0).integers(start, len(raw) - size - 50, 20):
        with pytest.raises(DataError, match="zeros in the middle of its data"):
            canonical(raw[:at] + bytes(size) + raw[at + size :], whole=True)


@pytest.mark.parametrize(
    ("kind", "least"), [("baseline", 36), ("restarts", 30), ("progressive", 10)]
)
def test_other_bytes_in_the_middle_of_a_jpeg_are_found(kind: str, least: int) -> None:
    """But for those after which the count of blocks is right by chance, or cannot be told."""
    raw = saved(Image.fromarray(LARGE), "JPEG", **KINDS[kind])
    start = jpegs.read_header(raw).start
    random = np.random.default_rng(0)
    found = 0
    for at in random.integers(start, len(raw) - 2500, 40):
        other = random.integers(1, 255, 2048, np.uint8).tobytes()
        try:
            canonical(raw[:at] + other + raw[at + 2048 :], whole=True)
        except DataError as error:
            assert "damaged JPEG" in str(error) or "cannot be decoded" in str(error)
            found += 1
    assert found >= least


def test_data_that_is_left_over_is_damage_but_for_a_few_bytes() -> None:
    for image in (PICTURE, GRAY):
        raw = saved(image, "JPEG")
        few, many = (raw[:-2] + count * b"\x55" + raw[-2:] for count in (8, 100))
        assert canonical(few, whole=True) == (few, "")
        with pytest.raises(DataError, match="its picture is complete before its data ends"):
            canonical(many, whole=True)


def test_a_picture_of_one_colour_may_be_coded_as_zeros() -> None:
    raw = saved(Image.new("RGB", (640, 480), "white"), "JPEG", optimize=True)
    assert bytes(100) in raw
    for content in (raw, saved(Image.new("L", (640, 480)), "JPEG", optimize=True)):
        assert canonical(content, whole=True) == (content, "")
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        for colour in ((9, 200, 80), (90, 90, 90)):
            content = saved(Image.new("RGB", (640, 480), colour), "JPEG", **options)
            assert canonical(content, whole=True) == (content, "")


def test_damage_of_the_sums_of_a_png_is_found() -> None:
    raw = bytearray(saved(PICTURE, "PNG"))
    raw[len(raw) // 2] ^= 1
    with pytest.raises(DataError, match="it cannot be decoded: "):
        canonical(bytes(raw))


def test_damage_of_any_kind_raises_nothing_but_a_data_error() -> None:
    random = np.random.default_rng(0)
    sources = [raw for _, raw, _ in OTHERS] + [JPEG, saved(PICTURE, "JPEG", exif=exif(6))]
    outcomes = {"refused": 0, "mended": 0}
    for raw in sources:
        for _ in range(12):
            damaged = bytearray(raw)
            for at in random.integers(0, min(len(raw), 600), 4):
                damaged[at] = random.integers(256)
            try:
                jpeg, _ = canonical(bytes(damaged), whole=True)
            except DataError:
                outcomes["refused"] += 1
            else:
                shown(jpeg)
                outcomes["mended"] += 1
    assert min(outcomes.values()) > 20


def test_threads_mend_side_by_side_and_no_warning_gets_out() -> None:
    flat = Image.new("P", (64, 64))
    raw = saved(flat, "PNG", transparency=b"\0\x80")  # of which Pillow warns
    broken = saved(PICTURE, "TIFF")[:-1] + b"\1"  # so it says that there is another directory
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(canonical, [raw, broken, JPEG] * 20))
    assert caught == []


fast = pytest.mark.skipif(
    codec.find_decoder("auto") == "pillow", reason="needs simplejpeg and OpenCV"
)
both = pytest.mark.parametrize("decoder", ["pillow", pytest.param("fast", marks=fast)])


@fast
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"exif": exif(6)}],
    ids=str,
)
def test_both_decoders_give_the_same_pixels(mode: str, options: dict[str, Any]) -> None:
    raw = saved(PICTURE.convert(mode), "JPEG", quality=80, **options)
    for channels in (1, 3):
        pixels = [decode(raw, channels, decoder) for decoder in ("fast", "pillow")]
        np.testing.assert_array_equal(*pixels)


@both
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_is_pillows(channels: int, decoder: str) -> None:
    for image in (PICTURE, GRAY):
        raw = saved(image, "JPEG")
        pixels = decode(raw, channels, decoder)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (120, 160, channels)
        expected = Image.open(io.BytesIO(raw)).convert("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(pixels.squeeze(), np.asarray(expected))


@both
def test_what_cannot_be_decoded_is_a_data_error(decoder: str) -> None:
    for raw in (JPEG[: len(JPEG) // 2], JPEG[:50], b"", b"text"):
        with pytest.raises(DataError, match="JPEG"):
            decode(raw, 3, decoder)
        with pytest.raises(DataError, match="JPEG"):
            random_crop(raw, (9, 9), 3, 0.1, np.random.default_rng(0), decoder)
    with pytest.raises(DataError, match="JPEG"):
        central_crop(JPEG[: len(JPEG) // 2], (9, 9), 9, 3)


def test_the_fast_decoder_is_asked_for_or_taken_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"simplejpeg", "cv2"}
    monkeypatch.setattr(
        codec.importlib.util, "find_spec", lambda name: name if name in there else None
    )
    assert [codec.find_decoder(word) for word in codec.DECODERS] == [*("fast", "fast", "pillow")]
    there.remove("simplejpeg")
    assert codec.find_decoder("auto") == "pillow"
    assert codec.find_decoder("pillow") == "pillow"
    with pytest.raises(DataError) as caught:
        codec.find_decoder("fast")
    assert "needs simplejpeg: pip install 'mgnet_jax[images]'" in str(caught.value)


@pytest.mark.parametrize("smallest", [0.08, 0.3])
def test_random_parts_have_the_areas_and_ratios_asked_for(smallest: float) -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(600, 800, smallest, rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 600).all()
    assert (left + width <= 800).all()
    area, ratio = height * width / (600 * 800), width / height
    assert smallest - 0.002 < area.min() < smallest + 0.01
    assert 0.745 < ratio.min() < 0.755
    assert 1.325 < ratio.max() < 1.34
    small = area < 0.6  # all of these fit in, whatever their ratio
    middle = (smallest + 0.6) / 2
    assert (area[small] < middle).mean() == pytest.approx(0.5, abs=0.04)
    assert (ratio[small] < 1).mean() == pytest.approx(0.5, abs=0.04)
    assert (ratio[small] < math.sqrt(4 / 3)).mean() == pytest.approx(0.75, abs=0.04)
    for start, room in ((top, 600 - height), (left, 800 - width)):
        assert start.min() == 0
        assert (start == room).any()
        assert (start / np.maximum(room, 1)).mean() == pytest.approx(0.5, abs=0.02)


def test_a_strip_gives_its_middle_with_a_ratio_in_bounds() -> None:
    rng = np.random.default_rng(0)
    assert crop_box(30, 900, 0.5, rng) == (0, 430, 30, 40)
    assert crop_box(900, 30, 0.5, rng) == (430, 0, 40, 30)
    assert crop_box(1, 1, 0.5, rng) == (0, 0, 1, 1)


def test_every_photograph_takes_as_many_random_numbers() -> None:
    after = []
    for shape in ((600, 800), (30, 900), (1, 1), (224, 224)):
        rng = np.random.default_rng(5)
        crop_box(*shape, 0.08, rng)
        after.append(rng.random())
    assert len(set(after)) == 1


@both
@pytest.mark.parametrize("channels", [1, 3])
def test_a_random_crop_shows_the_part_that_was_drawn(channels: int, decoder: str) -> None:
    y, x = np.mgrid[0:300, 0:400]
    ramp = np.stack([x * 0.6, y * 0.8, 0 * x + 90], -1).astype(np.uint8)
    raw = saved(Image.fromarray(ramp), "JPEG", quality=98, subsampling=0)
    for seed, size in enumerate([(224, 224), (32, 40), (500, 300), (64, 64)] * 3):
        rng, again = (np.random.default_rng(seed) for _ in range(2))
        crop = random_crop(raw, size, channels, 0.08, rng, decoder)
        assert crop.dtype == np.uint8
        assert crop.shape == (*size, channels)
        top, left, height, width = crop_box(300, 400, 0.08, again)
        assert rng.random() == again.random()
        if channels == 3:  # the middle of every pixel of the result, in the photograph
            at_x = left + (np.arange(size[1]) + 0.5) * width / size[1] - 0.5
            at_y = top + (np.arange(size[0]) + 0.5) * height / size[0] - 0.5
            inner = slice(size[0] // 8, -size[0] // 8), slice(size[1] // 8, -size[1] // 8)
            expected = np.stack(np.broadcast_arrays(at_x * 0.6, at_y[:, None] * 0.8), -1)
            pixel = max(height / size[0], width / size[1])  # of the result, in the photograph
            assert np.abs(crop[..., :2] - expected)[inner].max() < 3 + 0.5 * pixel


@fast
def test_both_ways_of_resizing_look_alike() -> None:
    grain = np.random.default_rng(0).normal(scale=10, size=(400, 500, 1))
    raw = saved(Image.fromarray((LARGE + grain).clip(0, 255).astype(np.uint8)), "JPEG", quality=95)
    for seed, side in enumerate([32, 64, 96, 160, 224, 300] * 3):
        one, other = (
            random_crop(raw, (side, side), 3, 0.3, np.random.default_rng(seed), decoder).astype(int)
            for decoder in ("fast", "pillow")
        )
        assert np.abs(one - other).mean() < 2.6
        assert np.abs(one.mean((0, 1)) - other.mean((0, 1))).max() < 2


def test_the_central_crop_is_the_middle_and_black_around_what_is_too_small() -> None:
    raw = saved(PICTURE, "JPEG", quality=98, subsampling=0)
    pixels = decode(raw, 3, "pillow")
    np.testing.assert_array_equal(central_crop(raw, (120, 120), 120, 3), pixels[:, 20:140])
    np.testing.assert_array_equal(central_crop(raw, (100, 60), 120, 3), pixels[10:110, 50:110])
    framed = central_crop(raw, (131, 170), 120, 3)
    np.testing.assert_array_equal(framed[5:125, 5:165], pixels)
    assert framed.sum() == pixels.sum(dtype=int)
    assert central_crop(raw, (24, 24), 32, 1).shape == (24, 24, 1)
