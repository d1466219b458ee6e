"""Random crops, flips and normalisation of whole batches, on the device and inside jit.

Images are uint8 (N, H, W, C) until `normalise`, so that the zeros of the padding are black, as
they are in the published PyTorch script.
"""

import jax
import jax.numpy as jnp


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
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def augment(images: jax.Array, key: jax.Array, crop_padding: int, flip: bool) -> jax.Array:
    """The paper's augmentation (He et al. 2016): crop, then flip; 0 and False leave one out."""
    crop_key, flip_key = jax.random.split(key)
    if crop_padding:
        images = random_crop(images, crop_key, crop_padding)
    if flip:
        images = random_flip(images, flip_key)
    return images


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(images / 255 - mean) / std for each channel, float32 (float64 where JAX has it enabled)."""
    mean_C, std_C = jnp.array(mean), jnp.array(std)
    return (images.astype(mean_C.dtype) / 255 - mean_C) / std_C
