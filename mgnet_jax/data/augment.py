"""Random crops, flips and normalisation of whole batches, on the device and inside jit.

Images are uint8 (N, H, W, C) until `normalise`, so that the zeros of the padding are black, as
they are in the published PyTorch script.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from mgnet_jax.data.rand_augment import rand_augment


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to images when they are trained on; 0 and False leave a part out.

    Attributes:
      crop_padding, flip: the paper's augmentation (He et al. 2016): crop, then flip.
      alternate_flips: flips are not random, see `in_turn`.
      randaugment, randaugment_magnitude: see `rand_augment`.
      erasing: see `random_erasing`.
      mixup, cutmix: see `mix`.
    """

    crop_padding: int = 0
    flip: bool = False
    alternate_flips: bool = False
    randaugment: int = 0
    randaugment_magnitude: int = 9
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    @classmethod
    def of(cls, keys: Mapping[str, Any]) -> Self:
        """What `config.data` asks for."""
        return cls(**{field.name: keys[field.name] for field in dataclasses.fields(cls)})

    def of_pixels(self, images: jax.Array, key: jax.Array, epoch: Any = 0) -> jax.Array:
        """Of images as they are, uint8 (N, H, W, C): what moves and colours them in an epoch."""
        crop_key, flip_key = jax.random.split(key)
        flips = in_turn(images, epoch) if self.alternate_flips else None
        if self.crop_padding:
            images = random_crop(images, crop_key, self.crop_padding)
        if self.flip:
            images = random_flip(images, flip_key) if flips is None else mirrored(images, flips)
        if self.randaugment:
            of_it = jax.random.fold_in(key, 5)
            images = rand_augment(images, of_it, self.randaugment, self.randaugment_magnitude)
        return images

    def of_normalised(
        self, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """Of normalised images, float (N, H, W, C): what takes from them, and adds them.

        Returns:
          The images, and the share that each has kept of itself; None: all.
        """
        # of_pixels has 0 and 1, by split; 2 is dropout's, see `training.steps`
        mix_key, erase_key = (jax.random.fold_in(key, i) for i in (3, 4))
        if self.erasing:
            images = random_erasing(images, erase_key, self.erasing)
        if self.mixup or self.cutmix:
            return mix(images, mix_key, self.mixup, self.cutmix)
        return images, None


def random_crop(images: jax.Array, key: jax.Array, padding: int) -> jax.Array:
    """Pads every side with `padding` zero pixels and cuts each image out at a random place."""
    n, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * padding + 1)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return jax.vmap(cut)(padded, corners)


def random_flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2."""
    return mirrored(images, jax.random.bernoulli(key, 0.5, images.shape[:1]))


def in_turn(images: jax.Array, epoch: Any) -> jax.Array:
    """Which images (N, H, W, C) are mirrored in an epoch: half of them, the others in the next.

    So that no image is seen alike in two epochs that follow each other (Jordan 2024). Which half an
    image is of, it says itself: whether the sum of its pixels is odd. Images that are cut out anew
    in each epoch, as photographs are, are therefore mirrored at random.
    """
    return (jnp.sum(images.astype(jnp.int32), (1, 2, 3)) + epoch) % 2 == 1


def mirrored(images: jax.Array, which: jax.Array) -> jax.Array:
    """Images (N, H, W, C), those of `which` (N,) mirrored left to right."""
    return jnp.where(which[:, None, None, None], images[:, :, ::-1], images)


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(images / 255 - mean) / std for each channel, float32 (float64 where JAX has it enabled)."""
    mean_C, std_C = jnp.array(mean), jnp.array(std)
    return (images.astype(mean_C.dtype) / 255 - mean_C) / std_C


def mix(
    images: jax.Array, key: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each image of a batch with another one, image i with image N - 1 - i.

    mixup (Zhang et al. 2018) adds them with weights lam and 1 - lam; cutmix (Yun et al. 2019) puts
    a rectangle of the other one into each, at the same place in all. lam is drawn once a batch from
    Beta(alpha, alpha). Where both are asked for, each batch takes one of them, with probability
    1/2.

    Args:
      images: float (N, H, W, C).
      key: random key.
      mixup: its alpha; 0: no mixup.
      cutmix: its alpha; 0: no cutmix.

    Returns:
      The images, and the share of each that is left, lam, a scalar.
    """
    choice_key, beta_key, place_key = jax.random.split(key, 3)
    height, width = images.shape[1:3]
    others, dtype = images[::-1], images.dtype
    # one draw: Beta of an alpha that may depend on the choice
    cut = jax.random.bernoulli(choice_key) if mixup and cutmix else jnp.array(cutmix > 0)
    alpha = jnp.where(cut, cutmix or 1.0, mixup or 1.0).astype(dtype)
    lam = jax.random.beta(beta_key, alpha, alpha, dtype=dtype)
    sides = jnp.sqrt(1 - lam) * jnp.array([height, width], dtype)
    middle = jax.random.uniform(place_key, (2,), dtype) * jnp.array([height, width], dtype)
    low, high = jnp.round(middle - sides / 2), jnp.round(middle + sides / 2)
    rows, columns = jnp.arange(height, dtype=dtype), jnp.arange(width, dtype=dtype)
    inside = (
        ((rows >= low[0]) & (rows < high[0]))[:, None] & (columns >= low[1]) & (columns < high[1])
    )
    left = jnp.where(cut, 1 - jnp.mean(inside, dtype=dtype), lam)
    weights = jnp.where(cut, 1 - inside.astype(dtype), lam)[..., None]
    return images * weights + others * (1 - weights), left


def random_erasing(images: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Puts the mean colour, 0, into a rectangle of some of the images (Zhong et al. 2020).

    Its area is uniform in [0.02, 1/3] of the image's and its ratio of height to width log-uniform
    in [0.3, 1/0.3], as far as it fits.

    Args:
      images: normalised, float (N, H, W, C).
      key: random key.
      probability: of each image.
    """
    n, height, width, _ = images.shape
    keys = jax.random.split(key, 4)
    area = jax.random.uniform(keys[0], (n,), minval=0.02, maxval=1 / 3) * (height * width)
    ratio = jnp.exp(jax.random.uniform(keys[1], (n,), minval=jnp.log(0.3), maxval=-jnp.log(0.3)))
    sides = jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)], -1)
    sides = jnp.clip(jnp.round(sides), 1, jnp.array([height, width]))
    room = jnp.array([height, width]) - sides + 1
    low = jnp.floor(jax.random.uniform(keys[2], (n, 2)) * room)
    rows, columns = jnp.arange(height), jnp.arange(width)

    def within(places: jax.Array, axis: int) -> jax.Array:
        start = low[:, axis, None]
        return (places >= start) & (places < start + sides[:, axis, None])

    erased = within(rows, 0)[:, :, None] & within(columns, 1)[:, None, :]
    erased &= jax.random.bernoulli(keys[3], probability, (n, 1, 1))
    return jnp.where(erased[..., None], 0, images)
