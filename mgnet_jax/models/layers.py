"""Initialisers, and the pieces before and after the grids (PyTorch's conventions).

Arrays are NHWC, kernels HWIO (height, width, channels in, channels out). Where XLA's defaults and
PyTorch's differ, these follow PyTorch, with which the paper's numbers were made.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from mgnet_jax.models import convolution
from mgnet_jax.models.norm import MOMENTS, BatchNorm

CONVOLVED = "convolved"  # a name for `jax.checkpoint`

Array = jax.Array
Initializer = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network is initialised and computed: what is no part of the function that it is.

    Attributes:
      initializer: "kaiming" or "pytorch", see `kernel_init`.
      param_dtype: type of parameters, statistics and logits.
      unroll: up to so many steps are compiled as straight-line code, more as a loop.
      remat: what the backward pass computes again: "none", "norms" or "steps", see `Network`.
      convolution: the algorithm, see `convolution.conv`.
      alone: whether each batch norm decides what it keeps, see `BatchNorm`; see `inside`.
    """

    initializer: str = "kaiming"
    param_dtype: Any = jnp.float32
    unroll: int = 1
    remat: str = "none"
    convolution: str = "auto"
    alone: bool = True

    @property
    def inside(self) -> "Compute":
        """The same for a module that `remember` is about."""
        return dataclasses.replace(self, alone=self.remat != "norms")

    def conv(self, x: Array, kernel: Array, stride: int = 1, **options: Any) -> Array:
        """`convolution.conv` by the chosen algorithm."""
        return convolution.conv(x, kernel, stride, algorithm=self.convolution, **options)

    def kept(self, x: Array) -> Array:
        """A convolution's result that batch norm follows: with remat="norms" what is kept."""
        return x if self.alone else checkpoint_name(x, CONVOLVED)

    def remember(self, step: type[nn.Module]) -> type[nn.Module]:
        """The module with what `remat` says of the backward pass."""
        if self.remat == "none":
            return step
        policies = jax.checkpoint_policies
        keeps = {"norms": policies.save_only_these_names(CONVOLVED, MOMENTS), "steps": None}
        return nn.remat(step, prevent_cse=False, policy=keeps[self.remat])

    def kernel(
        self,
        module: nn.Module,
        name: str,
        shape: tuple[int, ...],
        count: int | None = None,
        cosines: bool = False,
    ) -> Array:
        """A parameter of the module: one kernel, or a stack of `count`; see `cosine_init`."""
        init = kernel_init(self.initializer, stacked=count is not None)
        init = cosine_init(init) if cosines else init
        return module.param(
            name, init, shape if count is None else (count, *shape), self.param_dtype
        )

    def norm(self, train: bool) -> Callable[[str], Callable[..., Array]]:
        """Makes batch norms by name, in the module that is being called; `relu=True` adds ReLU."""
        native = self.convolution == "native"
        return lambda name: partial(
            BatchNorm(self.param_dtype, self.alone, native, name=name), train=train
        )


def kernel_init(name: str, stacked: bool = False) -> Initializer:
    """The initialiser of convolution kernels and of the linear head's matrix.

    Args:
      name: "kaiming" (He et al. 2015, the paper's: normal, variance 2 / fan_in) or "pytorch"
        (PyTorch's default, the published script's: uniform, variance 1 / (3 fan_in)).
      stacked: the first axis counts kernels (one a smoothing step) and is not part of fan_in.
    """
    batch_axis = (0,) if stacked else ()
    if name == "kaiming":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal", batch_axis=batch_axis)
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", batch_axis=batch_axis)


def cosine_init(rest: Initializer) -> Initializer:
    """The cosine transform of patches (Ahmed, Natarajan and Rao 1974), for the first convolution.

    Its basis over height, width and channels, which is close to the principal components of
    patches of photographs, the lowest frequencies first. Before batch norm their length is of no
    effect but that longer ones are turned less by a step. What there is more of is as `rest` makes
    it.
    """

    def cosines(n: int) -> np.ndarray:
        """One a row, of norm 1."""
        waves = np.cos(np.pi / n * np.outer(np.arange(n), np.arange(n) + 0.5))
        return waves / np.linalg.norm(waves, axis=1, keepdims=True)

    def init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        *sizes, count = shape
        bases = [cosines(n) for n in sizes]
        basis = np.einsum("ai,bj,cl->ijlabc", *bases).reshape(*sizes, -1)
        order = np.argsort(np.sum(np.indices(sizes), 0).ravel(), kind="stable")[:count]
        kernel = rest(key, shape, dtype)
        return kernel.at[..., : len(order)].set(NORM * basis[..., order])

    return init


def bias_init(name: str, fan_in: int) -> Initializer:
    """The initialiser of a bias: zero, or PyTorch's as for the kernel."""
    if name == "kaiming":
        return nn.initializers.zeros
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(
        key, shape, dtype, minval=-bound, maxval=bound
    )


class Conv(nn.Module):
    """A convolution with what may follow it: a bias, batch norm, ReLU.

    It may begin with `cosines`, see `cosine_init`.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    bias: bool = False
    norm: bool = True
    relu: bool = True
    cosines: bool = False
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        compute, c_in = self.compute, x.shape[-1] // self.groups
        shape = (self.size, self.size, c_in, self.features)
        kernel = compute.kernel(self, "kernel", shape, cosines=self.cosines)
        x = compute.conv(x, kernel, self.stride, padding=self.padding, groups=self.groups)
        if self.bias:
            init = bias_init(compute.initializer, self.size**2 * c_in)
            x = x + self.param("bias", init, (self.features,), compute.param_dtype).astype(x.dtype)
        if self.norm:
            return compute.norm(train)("bn")(compute.kept(x), relu=self.relu)
        return nn.relu(x) if self.relu else x


NORM = 5.0
"""The length of each cosine of `cosine_init`; He et al.'s kernels have sqrt(2) on average."""
STEMS = {"cifar": (3, 1, 1), "half": (4, 2, 1), "imagenet": (7, 2, 3)}
"""Size, stride and padding of the first convolution."""


class Stem(nn.Module):
    """The images' first data f^1.

    "cifar" (3x3), "half" (4x4 stride 2, which begins with cosines; ours) or "imagenet" (7x7
    stride 2, max-pool 3x3/2). All are followed by batch norm and ReLU, but the first two not if
    `plain`.
    """

    kind: str
    features: int
    plain: bool = False
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        imagenet = self.kind == "imagenet"
        norm = imagenet or not self.plain
        size, stride, padding = STEMS[self.kind]
        f = Conv(
            self.features,
            size,
            stride,
            padding,
            norm=norm,
            relu=norm,
            cosines=self.kind == "half",
            compute=self.compute,
            name="conv",
        )(images, train)
        return max_pool(f, 3, 2, 1) if imagenet else f


class Head(nn.Module):
    """Global average of u (N, H, W, c) and one linear layer with bias: logits (N, num_classes).

    With `pixels` there is no average: logits of each pixel, (N, H, W, num_classes).
    """

    num_classes: int
    compute: Compute = Compute()
    pixels: bool = False

    @nn.compact
    def __call__(self, u: Array) -> Array:
        features = u.astype(self.compute.param_dtype)
        features = features if self.pixels else jnp.mean(features, (1, 2))
        return linear(self.num_classes, features.shape[-1], self.compute, "linear")(features)


def linear(features: int, fan_in: int, compute: Compute, name: str, dtype: Any = None) -> nn.Dense:
    """A linear layer with bias; computed in the type of the parameters unless dtype is given."""
    return nn.Dense(
        features,
        param_dtype=compute.param_dtype,
        dtype=dtype or compute.param_dtype,
        kernel_init=kernel_init(compute.initializer),
        bias_init=bias_init(compute.initializer, fan_in),
        name=name,
    )


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """The largest value of each window; a grid smaller than the window is pooled whole."""
    windows = tuple(min(size, n + 2 * padding) for n in x.shape[1:3])
    return nn.max_pool(x, windows, (stride, stride), padding=((padding, padding),) * 2)


def adaptive_average_pool(x: Array, size: int) -> Array:
    """Averages x (N, H, W, c) to (N, size, size, c), as PyTorch's AdaptiveAvgPool2d does.

    Row i of the result is the mean of the rows from floor(i H / size) to below
    ceil((i + 1) H / size); columns likewise.
    """

    def weights(n: int) -> Array:
        rows, places = jnp.arange(size)[:, None], jnp.arange(n)
        inside = (places >= rows * n // size) & (places < -(-(rows + 1) * n // size))
        return (inside / jnp.sum(inside, 1, keepdims=True)).astype(x.dtype)

    if x.shape[1:3] == (size, size):
        return x
    return jnp.einsum("ih,jw,nhwc->nijc", weights(x.shape[1]), weights(x.shape[2]), x)
