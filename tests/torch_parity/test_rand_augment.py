"""RandAugment's operations against torchvision's, pixel by pixel."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("needs torchvision", allow_module_level=True)

import torch

from mgnet_jax.data.rand_augment import MOVES, OPERATIONS, STRENGTHS, apply
from tests.torch_parity.cases import torchvision_models

torchvision_models()  # may need help to be imported

from torchvision.transforms import InterpolationMode, RandAugment  # noqa: E402
from torchvision.transforms.autoaugment import _apply_op  # noqa: E402

pytestmark = pytest.mark.torch

NAMES = {"autocontrast": "AutoContrast"} | {
    name: name.title().replace("_", "") for name in OPERATIONS if name != "autocontrast"
}


def photographs(channels: int) -> np.ndarray:
    """Smooth ones, a noisy one, a dark one with few values, one of a single value."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :31]
    waves = [127 + 100 * np.sin(x / (2 + c) + y / (3 + c)) for c in range(channels)]
    smooth = np.stack(waves, -1)
    noisy = rng.integers(0, 256, smooth.shape)
    dark = rng.integers(3, 9, smooth.shape)
    even = np.full_like(noisy, 77)
    return np.stack([smooth.astype(int), noisy, dark, even]).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_torchvision_has_it(name: str, channels: int) -> None:
    images = photographs(channels)
    n, height, width, _ = images.shape
    theirs_of = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    space = RandAugment()._augmentation_space(STRENGTHS, (height, width))
    strengths, signed = space[NAMES[name]]
    run = jax.jit(apply, static_argnums=3)
    # odd ones: no place is half-way between two pixels
    for magnitude in (3, 9, 17, 23, 29):
        for sign in (1, -1) if signed else (1,):
            which = jnp.full(n, OPERATIONS.index(name))
            ours = np.asarray(run(images, which, jnp.full(n, float(sign)), magnitude))
            strength = float(strengths[magnitude]) if strengths.ndim else 0.0
            theirs = torch.stack(
                [
                    _apply_op(x, NAMES[name], sign * strength, InterpolationMode.NEAREST, None)
                    for x in theirs_of
                ]
            )
            expected = np.moveaxis(theirs.numpy(), 1, -1).astype(int)
            difference = np.abs(ours.astype(int) - expected)
            if OPERATIONS.index(name) < MOVES or name in ("posterize", "solarize", "equalize"):
                assert difference.max() == 0, (magnitude, sign)
            else:
                # both cut off what may be a whole number but for rounding, often where a pixel is
                # blended with its equal: in the dark image, in the even one, at a border
                assert difference.max() <= 1 and (difference[:2, 1:-1, 1:-1] > 0).mean() < 0.03
