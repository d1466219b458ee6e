"""RandAugment (Cubuk et al. 2020) of whole batches, on the device, as torchvision defines it.

An operation is one of fourteen: five move the pixels by an affine map (nearest pixel, black from
outside), four blend the image with a duller one, four look each channel's pixels up in a table,
and one leaves all as it is. So a batch costs three passes, whichever operation each image has.
"""

import jax
import jax.numpy as jnp

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "color", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
MOVES, BLENDS = 6, 4  # how many of them there are, in this order; the rest are tables
STRENGTHS = 31  # magnitudes from 0 to 30
GRAY = (0.2989, 0.587, 0.114)


def rand_augment(images: jax.Array, key: jax.Array, operations: int, magnitude: int) -> jax.Array:
    """Puts each image through operations drawn for it, each with a random sign where it has one.

    Args:
      images: uint8 (N, H, W, C) with 1 or 3 channels.
      key: random key.
      operations: how many, one after the other.
      magnitude: of all, 0 to 30; 9 is torchvision's default.
    """
    n = len(images)
    for layer in jax.random.split(key, operations):
        which_key, sign_key = jax.random.split(layer)
        which = jax.random.randint(which_key, (n,), 0, len(OPERATIONS))
        sign = jax.random.rademacher(sign_key, (n,), jnp.float32)
        images = apply(images, which, sign, magnitude)
    return images


def apply(images: jax.Array, which: jax.Array, sign: jax.Array, magnitude: int) -> jax.Array:
    """Puts image i through `OPERATIONS[which[i]]`, with the sign[i] of 1 or -1."""
    part = magnitude / (STRENGTHS - 1)
    moved = _move(images, which, sign * part)
    blended = _blend(images, which - MOVES, 1 + 0.9 * sign * part)
    looked_up = _look_up(images, which - MOVES - BLENDS, part)
    kind = which[:, None, None, None]
    return jnp.where(kind < MOVES, moved, jnp.where(kind < MOVES + BLENDS, blended, looked_up))


def _move(images: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
    """Pixel (y, x) of the result is that of the image at M (y, x) + t, all measured in pixels."""
    n, height, width, _ = images.shape
    is_of = [(which == i).astype(jnp.float32) for i in range(MOVES)]
    shear = 0.3 * strength
    angle = jnp.radians(30 * strength) * is_of[5]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shift_x = jnp.trunc(150 / 331 * width * strength) * is_of[3]
    shift_y = jnp.trunc(150 / 331 * height * strength) * is_of[4]
    # shears hold the upper left corner, rotations the centre
    center_y, center_x = height / 2 * is_of[5], width / 2 * is_of[5]
    y = jnp.arange(height)[None, :, None] + 0.5 - center_y[:, None, None]
    x = jnp.arange(width)[None, None, :] + 0.5 - center_x[:, None, None]

    def of(value: jax.Array) -> jax.Array:
        return value[:, None, None]

    from_x = of(cos) * x + of(shear * is_of[1] - sin) * y + of(center_x - shift_x)
    from_y = of(shear * is_of[2] + sin) * x + of(cos) * y + of(center_y - shift_y)
    rows = jnp.round(from_y - 0.5).astype(jnp.int32)
    columns = jnp.round(from_x - 0.5).astype(jnp.int32)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    pixels = images[jnp.arange(n)[:, None, None], rows, columns]
    return jnp.where(inside[..., None], pixels, 0)


def _blend(images: jax.Array, which: jax.Array, factor: jax.Array) -> jax.Array:
    """Factor of the image and 1 - factor of a duller one: black, gray, even or blurred."""
    x = images.astype(jnp.float32)
    gray = jnp.floor(x @ jnp.array(GRAY))[..., None] if x.shape[-1] == 3 else x
    even = jnp.mean(gray, (1, 2, 3), keepdims=True)
    duller = jnp.zeros_like(x)
    for i, other in enumerate((gray, even, _blurred(x)), 1):
        duller = jnp.where((which == i)[:, None, None, None], other, duller)
    ratio = factor[:, None, None, None]
    return jnp.clip(ratio * x + (1 - ratio) * duller, 0, 255).astype(jnp.uint8)


def _blurred(x: jax.Array) -> jax.Array:
    """A 3x3 mean with the centre five times; the border stays as it is."""
    if min(x.shape[1:3]) < 3:
        return x
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return x.at[:, 1:-1, 1:-1].set(jnp.round((sums + 4 * x[:, 1:-1, 1:-1]) / 13))


def _look_up(images: jax.Array, which: jax.Array, part: float) -> jax.Array:
    """Each channel through a table of 256 values."""
    n, height, width, channels = images.shape
    flat = jnp.moveaxis(images, -1, 1).reshape(n, channels, height * width)
    value = jnp.arange(256)
    bits = 8 - round(4 * part)
    posterize = value & (256 - 2 ** (8 - bits))
    solarize = jnp.where(value >= 255 * (1 - part), 255 - value, value)
    tables = jnp.broadcast_to(posterize, (n, channels, 256))
    for i, table in enumerate((solarize, _stretching(flat), _equalizing(flat)), 1):
        tables = jnp.where((which == i)[:, None, None], table, tables)
    found = jnp.take_along_axis(tables, flat.astype(jnp.int32), -1).astype(jnp.uint8)
    return jnp.moveaxis(found.reshape(n, channels, height, width), 1, -1)


def _stretching(flat: jax.Array) -> jax.Array:
    """The table that takes the darkest pixel (N, C, H W) to 0 and the brightest to 255."""
    low, high = (f(flat, -1, keepdims=True).astype(jnp.float32) for f in (jnp.min, jnp.max))
    scale = jnp.where(low == high, 1, 255 / jnp.maximum(high - low, 1))
    start = jnp.where(low == high, 0, low)
    return jnp.clip((jnp.arange(256) - start) * scale, 0, 255).astype(jnp.int32)


def _equalizing(flat: jax.Array) -> jax.Array:
    """The table that makes all values of the pixels (N, C, H W) about as frequent, as Pillow's."""
    value = jnp.arange(256)
    # pixels <= each value, from the sorted ones
    up_to = jax.vmap(jax.vmap(lambda x: jnp.searchsorted(x, value, side="right")))(
        jnp.sort(flat.astype(jnp.int32), -1)
    )
    below = jnp.pad(up_to, ((0, 0), (0, 0), (1, 0)))[..., :-1]
    brightest = jnp.max(flat, -1, keepdims=True).astype(jnp.int32)
    step = jnp.take_along_axis(below, brightest, -1) // 255
    table = (below + step // 2) // jnp.maximum(step, 1)
    return jnp.where(step == 0, value, jnp.clip(table, 0, 255))
