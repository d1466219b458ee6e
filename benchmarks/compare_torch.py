"""The same network in PyTorch: logits, statistics and a whole SGD trajectory, in float64.

    pip install -e '.[torch]' && python benchmarks/compare_torch.py

PyTorch's network is written here from the paper, in the direct form with f, from torch.nn's own
convolution and batch norm, and trained by torch.optim.SGD; both start from the same parameters. It
prints the largest relative difference after some steps, and fails if it is above 1e-9.
"""

import argparse
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mgnet_jax import create
from mgnet_jax.config import default
from mgnet_jax.models import parse
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.state import create_state

MEAN, STD = (0.5,), (0.25,)


class ConvBNReLU(nn.Module):
    """ReLU(BN(conv)) without bias."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, c_in, H, W) to (N, c_out, H', W')."""
        return functional.relu(self.bn(self.conv(x)))


class TorchMgNet(nn.Module):
    """Algorithm 2, with the CIFAR stem."""

    def __init__(self, spec: MgNetSpec, num_classes: int, image_channels: int):
        super().__init__()
        self.spec = spec
        self.stem = ConvBNReLU(image_channels, spec.channels[0][1], 3, 1)

        def kernel(c_in: int, c_out: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)

        levels = list(zip(spec.nu, spec.channels, strict=True))
        self.A = nn.ModuleList(kernel(c_u, c_f) for _, (c_u, c_f) in levels)
        self.B = nn.ModuleList(
            nn.ModuleList(kernel(c_f, c_u) for _ in range(1 if spec.share_B else nu))
            for nu, (c_u, c_f) in levels
        )
        self.bn_r, self.bn_B = (
            nn.ModuleList(
                nn.ModuleList(nn.BatchNorm2d(pair[i]) for _ in range(nu)) for nu, pair in levels
            )
            for i in (1, 0)
        )
        pairs = list(zip(spec.channels, spec.channels[1:], strict=False))
        self.Pi = nn.ModuleList(ConvBNReLU(fine[0], coarse[0], 3, 2) for fine, coarse in pairs)
        self.R = nn.ModuleList(ConvBNReLU(fine[1], coarse[1], 3, 2) for fine, coarse in pairs)
        self.head = nn.Linear(spec.channels[-1][0], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        f = self.stem(x)
        u = f.new_zeros(f.shape[0], self.spec.channels[0][0], *f.shape[2:])
        for level, nu in enumerate(self.spec.nu):
            A, B = self.A[level], self.B[level]
            for i in range(nu):
                r = functional.relu(self.bn_r[level][i](f - A(u)))
                u = u + functional.relu(self.bn_B[level][i](B[i % len(B)](r)))
            if level + 1 < len(self.spec.nu):
                r = self.R[level](f - A(u))
                u = self.Pi[level](u)
                f = r + self.A[level + 1](u)
        return self.head(u.mean((2, 3)))


def as_flax(model: TorchMgNet) -> dict[str, Any]:
    """The PyTorch network's parameters and statistics, by the names of Flax's tree."""
    flat: dict[str, Any] = {}

    def norms(place: str, bns: list[nn.BatchNorm2d], stacked: bool) -> None:
        for name, attribute in (
            ("scale", "weight"),
            ("bias", "bias"),
            ("mean", "running_mean"),
            ("var", "running_var"),
        ):
            values = np.stack([getattr(bn, attribute).detach().numpy() for bn in bns])
            flat[f"{place}/{name}"] = values if stacked else values[0]

    def kernel(conv: nn.Conv2d) -> np.ndarray:
        return conv.weight.detach().numpy().transpose(2, 3, 1, 0)

    def transfer(place: str, part: ConvBNReLU) -> None:
        flat[f"{place}/kernel"] = kernel(part.conv)
        norms(f"{place}/bn", [part.bn], stacked=False)

    transfer("stem/conv", model.stem)
    for level, (A, B) in enumerate(zip(model.A, model.B, strict=True), 1):
        flat[f"level{level}/A"] = kernel(A)
        kernels = np.stack([kernel(b) for b in B])
        flat[f"level{level}/B"] = kernels[0] if model.spec.share_B else kernels
        norms(f"level{level}/step/bn_r", list(model.bn_r[level - 1]), stacked=True)
        norms(f"level{level}/step/bn_B", list(model.bn_B[level - 1]), stacked=True)
    for level, (Pi, R) in enumerate(zip(model.Pi, model.R, strict=True), 1):
        transfer(f"restrict{level}/Pi", Pi)
        transfer(f"restrict{level}/R", R)
    flat["head/linear/kernel"] = model.head.weight.detach().numpy().T
    flat["head/linear/bias"] = model.head.bias.detach().numpy()
    return {key: value.copy() for key, value in flat.items()}


def fill(tree: Any, flat: dict[str, Any]) -> Any:
    """A Flax tree with its leaves taken from names like level1/step/bn_r/scale."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: flat["/".join(key.key for key in path)].reshape(leaf.shape), tree
    )


def compare(name: str, form: str, count: int) -> float:
    """Trains both for `count` steps; gives the largest relative difference of all they hold."""
    spec, classes, batch, shape = parse(name), 5, 8, (12, 10, 1)
    torch.manual_seed(0)
    reference = TorchMgNet(spec, classes, shape[2]).double()
    flat = as_flax(reference)
    model = create(name, classes, form=form, dtype="float64")
    optim = default().optim
    optimizer = make_optimizer(optim, make_schedule(optim, 1, count))
    state = create_state(model, optimizer, jax.random.key(0), shape)
    state = state.replace(
        params=fill(state.params, flat), batch_stats=fill(state.batch_stats, flat)
    )
    step = jax.jit(
        steps.make_train_step(
            model,
            optimizer,
            sharding.make_mesh(jax.devices()[:1]),
            mean=MEAN,
            std=STD,
            label_smoothing=0.0,
            ema_decay=0.0,
        )
    )
    sgd = torch.optim.SGD(
        reference.parameters(),
        optim.learning_rate,
        optim.momentum,
        weight_decay=optim.weight_decay,
    )
    rng = np.random.default_rng(0)
    for _ in range(count):
        images = rng.integers(0, 256, (batch, *shape), np.uint8)
        labels = rng.integers(0, classes, batch)
        state, _ = step(state, images[None], labels[None].astype(np.int32), jax.random.key(0))
        x = (torch.from_numpy(images.transpose(0, 3, 1, 2)).double() / 255 - MEAN[0]) / STD[0]
        sgd.zero_grad()
        functional.cross_entropy(reference(x), torch.from_numpy(labels)).backward()
        sgd.step()
    expected = as_flax(reference)
    worst = 0.0
    for tree in (state.params, state.batch_stats):
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(fill(tree, expected)), strict=True)
        worst = max([worst, *(float(abs(a - b).max() / abs(b).max()) for a, b in pairs)])
    return worst


def main() -> None:
    """Compares some networks in both forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="SGD steps")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, torch {torch.__version__}, float64, {args.steps} SGD steps")
    for name in ("MgNet[2,2,2,2]-[8]-B^l", "MgNet[3,1,2]-[(6,4),(5,7),(8,8)]-B^{l,i}"):
        for form in ("dual", "direct"):
            worst = compare(name, form, args.steps)
            print(f"{name:42} {form:7} largest relative difference {worst:.1e}")
            if not worst <= 1e-9:
                raise SystemExit("they differ")


if __name__ == "__main__":
    main()
