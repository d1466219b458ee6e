"""The crops of photographs against torchvision's transforms of PIL images, bit for bit."""

import importlib
import importlib.util
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs PyTorch")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("needs torchvision", allow_module_level=True)

import torch

from mgnet_jax.data.photographs import codec
from tests.torch_parity.cases import torchvision_models

torchvision_models()  # which makes torchvision fit to be imported
transforms = importlib.import_module("torchvision.transforms")

pytestmark = pytest.mark.torch

SIZES = [
    *((1, 1), (1, 150), (150, 1), (7, 3), (223, 225), (224, 224), (255, 257), (256, 256)),
    *((256, 300), (300, 256), (257, 256), (333, 500), (500, 333), (375, 500), (511, 767)),
    *((767, 511), (1000, 999), (40, 3000), (3000, 40), (101, 103), (103, 104), (97, 20)),
]


def photograph(height: int, width: int, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng((height, width))
    small = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height)).convert(mode).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("side", "size"), [(256, (224, 224)), (32, (32, 32)), (31, (40, 20))])
def test_central_crop(height: int, width: int, side: int, size: tuple[int, int]) -> None:
    theirs = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(size)])
    for mode in ("RGB", "L"):
        raw = photograph(height, width, mode)
        for channels, into in ((3, "RGB"), (1, "L")):
            expected = np.asarray(theirs(Image.open(io.BytesIO(raw)).convert(into)))
            found = codec.central_crop(raw, size, side, channels)
            np.testing.assert_array_equal(found.squeeze(), expected)


class Drawn:
    """PyTorch, but what it draws are numbers that are given, in float64."""

    def __init__(self, numbers: np.ndarray, place: np.ndarray) -> None:
        self.numbers, self.place = iter(numbers.ravel()), iter(place)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, _: int) -> "Drawn":
        return self

    def uniform_(self, low: Any, high: Any) -> torch.Tensor:
        return torch.tensor(float(low) + (float(high) - float(low)) * next(self.numbers)).double()

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        return torch.tensor([low + int(next(self.place) * (high - low))])


@pytest.mark.parametrize("smallest", [0.08, 0.35, 1.0])
def test_random_boxes_are_torchvisions_for_the_same_numbers(
    smallest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried_in_vain = 0
    for number in range(600):
        height, width = SIZES[number % len(SIZES)]
        rng, again = (np.random.default_rng(number) for _ in range(2))
        drawn = Drawn(again.random((10, 2)), again.random(2))
        monkeypatch.setattr(transforms.transforms, "torch", drawn)
        theirs = transforms.RandomResizedCrop.get_params(
            Image.new("1", (width, height)), [smallest, 1.0], [3 / 4, 4 / 3]
        )
        assert codec.crop_box(height, width, smallest, rng) == tuple(theirs)
        tried_in_vain += next(drawn.numbers, None) is None
    assert 30 < tried_in_vain < 570


def test_random_boxes_have_torchvisions_distribution() -> None:
    """Means and deviations of all four numbers, at a size where half of the first tries fail."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    image = Image.new("1", (500, 333))
    ours = np.array([codec.crop_box(333, 500, 0.08, rng) for _ in range(20_000)])
    theirs = np.array(
        [
            transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            for _ in range(20_000)
        ]
    )
    error = 4 * np.hypot(ours.std(0), theirs.std(0)) / np.sqrt(20_000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.03)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_random_crop_by_pillow_is_torchvisions(height: int, width: int) -> None:
    raw = photograph(height, width)
    for seed in range(4):
        rng, again = (np.random.default_rng(seed) for _ in range(2))
        found = codec.random_crop(raw, (64, 48), 3, 0.08, rng, "pillow")
        box = codec.crop_box(height, width, 0.08, again)
        image = Image.open(io.BytesIO(raw)).convert("RGB")
        expected = transforms.functional.resized_crop(image, *box, size=[64, 48])
        np.testing.assert_array_equal(found, np.asarray(expected))
