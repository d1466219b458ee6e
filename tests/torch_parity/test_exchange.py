"""Weights from PyTorch and back: torchvision's networks, and the published MgNet's module.

The published module is written here from the names of its state dict, with this repository's words
for what it computes; `torch_parity.networks` has the same network under other names.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("needs torchvision", allow_module_level=True)

import torch
from commands import command
from flax.traverse_util import flatten_dict
from networks import images_and_variables
from torch import nn
from torch.nn.functional import relu

import mgnet_jax
from mgnet_jax.trained.export import export
from mgnet_jax.weights.facts import Facts, Weights, WeightsError
from tests.torch_parity.cases import torchvision_models

pytestmark = pytest.mark.torch
NORMALISE = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)


class MgIte(nn.Module):
    def __init__(self, A: nn.Module, S: nn.Module, c_u: int, c_f: int):
        super().__init__()
        self.A, self.S = A, S
        self.bn1, self.bn2 = nn.BatchNorm2d(c_f), nn.BatchNorm2d(c_u)

    def forward(self, out: Any) -> Any:
        u, f = out
        return u + relu(self.bn2(self.S(relu(self.bn1(f - self.A(u)))))), f


class MgRestriction(nn.Module):
    def __init__(self, A_old: nn.Module, A: nn.Module, c: int):
        super().__init__()
        self.A_old, self.A, self.Pi, self.R = A_old, A, conv(c, c, 2), conv(c, c, 2)
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)

    def forward(self, out: Any) -> Any:
        u, f = out
        r = f - self.A_old(u)
        u = relu(self.bn1(self.Pi(u)))
        return u, relu(self.bn2(self.R(r))) + self.A(u)


class Published(nn.Module):
    def __init__(self, nu: tuple[int, ...], c: int, classes: int, share_B: bool = True):
        super().__init__()
        self.nu, self.c = nu, c
        self.conv1, self.bn1 = conv(3, c), nn.BatchNorm2d(c)
        A_old, layers = None, []
        for l, n in enumerate(nu):
            A, S = conv(c, c), conv(c, c)
            layers = [MgRestriction(A_old, A, c)] if l else []
            layers += [MgIte(A, S if share_B else conv(c, c), c, c) for _ in range(n)]
            setattr(self, f"layer{l}", nn.Sequential(*layers))
            A_old = A
        self.fc = nn.Linear(c, classes)

    def forward(self, images: Any) -> Any:
        f = relu(self.bn1(self.conv1(images)))
        out = torch.zeros_like(f), f
        for l in range(len(self.nu)):
            out = getattr(self, f"layer{l}")(out)
        return self.fc(out[0].mean((2, 3)))


def stirred(network: nn.Module, dtype: Any) -> nn.Module:
    """With statistics and scales away from their defaults."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for x in (module.weight, module.running_var):
                    x.uniform_(0.5, 1.5, generator=generator)
                for x in (module.bias, module.running_mean):
                    x.normal_(0, 0.2, generator=generator)
    return network.to(dtype).eval()


def pixels(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def theirs(network: nn.Module, images: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(next(network.parameters()).dtype) / 255
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (mean, std))
    with torch.no_grad():
        return network((x - mean) / std).numpy()


def differ(ours: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(ours - other).max() / np.abs(other).max())


@pytest.mark.parametrize(
    ("name", "dtype", "bar"),
    [
        ("resnet18", torch.float32, 1e-5),
        ("resnet18", torch.float64, 1e-9),
        ("wide_resnet50_2", torch.float32, 1e-5),
        ("vgg19", torch.float32, 1e-5),
        ("alexnet", torch.float32, 1e-5),
    ],
)
def test_torchvision(name: str, dtype: Any, bar: float, tmp_path: Path) -> None:
    make = getattr(torchvision_models(), name)
    network = stirred(make(weights=None, num_classes=7), dtype)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    trained = mgnet_jax.load(tmp_path / "net.pth")
    images = pixels(64)
    expected = theirs(network, images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert differ(trained.logits(images), expected) < bar
    assert trained.facts.shorter_side == 256 and trained.facts.image_shape == (224, 224, 3)


@pytest.mark.parametrize("share_B", [True, False])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_a_published_checkpoint_and_back(
    share_B: bool, dtype: Any, bar: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = stirred(Published((2, 1, 2), 6, 10, share_B), dtype)
    torch.save(nn.DataParallel(network).state_dict(), tmp_path / "mgnet.pt")
    trained = mgnet_jax.load(tmp_path / "mgnet.pt")
    assert trained.spec == f"MgNet[2,1,2]-[6]-B{'^l' if share_B else '^{l,i}'}"
    assert (trained.facts.mean, trained.facts.std) == NORMALISE
    images = pixels(32)
    expected = theirs(network, images, *NORMALISE)
    assert differ(trained.logits(images), expected) < bar
    out = tmp_path / "out"
    assert command(tmp_path / "mgnet.pt", "--mode=export", "--pytorch", f"--out={out}") == 0
    np.testing.assert_array_equal(mgnet_jax.load(out).logits(images), trained.logits(images))
    again = Published((2, 1, 2), 6, 10, share_B).to(dtype)
    from safetensors.torch import load_file

    again.load_state_dict(load_file(out / "pytorch_model.safetensors"))
    for name, x in network.state_dict().items():
        assert name.endswith("tracked") or torch.equal(x, again.state_dict()[name]), name
    assert mgnet_jax.load(out / "pytorch_model.safetensors").spec == trained.spec


def written(folder: Path) -> Any:
    """The module that an export wrote for PyTorch."""
    spec = importlib.util.spec_from_file_location("written", folder / "torch_model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("spec", "stem"),
    [
        ("MgNet[1,2]-[(3,4),(5,6)]-B^{l,i}", "imagenet"),
        ("MgNet[2,1]-[4]-B^l", "cifar"),
        ("ResNet18", "imagenet"),
    ],
)
def test_what_is_exported_here_runs_there(spec: str, stem: str, tmp_path: Path) -> None:
    model = mgnet_jax.create(spec, 5, stem)
    _, variables = images_and_variables(model, shape=(1, 32, 32, 3))
    arrays = {k: np.asarray(x) for k, x in flatten_dict(variables, sep="/").items()}
    facts = Facts(spec, stem, 5, (32, 32, 3), *NORMALISE, class_names=tuple("abcde"))
    export(Weights(facts, arrays), tmp_path, pytorch=True)
    module = written(tmp_path)
    network, ours = module.load(), mgnet_jax.load(tmp_path)
    images = pixels(32)
    with torch.no_grad():
        expected = network(module.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))).numpy()
    assert differ(ours.logits(images), expected) < 1e-4
    assert ours.class_names == module.CLASSES


def test_a_file_that_is_no_state_dict_is_said(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds list, and no state dict"):
        mgnet_jax.load(tmp_path / "list.pt")
    (tmp_path / "other.pt").write_bytes(b"nothing of PyTorch")
    with pytest.raises(WeightsError, match="cannot be read as weights alone"):
        mgnet_jax.load(tmp_path / "other.pt")
    torch.save({"layer0.0.S.weight": torch.zeros(2, 2, 3, 3)}, tmp_path / "half.pt")
    with pytest.raises(WeightsError, match=r"half\.pt"):
        mgnet_jax.load(tmp_path / "half.pt")
