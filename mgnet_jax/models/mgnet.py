"""MgNet (He and Xu 2019): Algorithm 2 of the paper, on the smoother of `iteration`."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.cost import Part, conv_bn, conv_size
from mgnet_jax.models.iteration import Restrict, Smoother
from mgnet_jax.models.layers import Array, Head, Stem
from mgnet_jax.models.spec import MgNetSpec, ModelError


class MgNet(nn.Module):
    """Maps images (N, H, W, channels), float, to logits (N, num_classes).

    Attributes:
      spec: the network in the paper's notation.
      num_classes: classes.
      stem: "cifar" (3x3, stride 1; also MNIST's) or "imagenet" (7x7 stride 2, max-pool 3x3/2).
      form: "dual" (Theorem 4.1) or "direct" (Algorithm 2); the same function and parameters.
      unroll: a grid's smoothing steps are compiled as straight-line code if they are at most so
        many, else as a loop; slower to compile, faster to run.
      remat: recompute activations in the backward pass, step by step, to save memory; without
        unrolling.
      dtype: type of the activations: "float32", "bfloat16" or "float64". Parameters, batch
        statistics and logits are float32 (float64 for "float64").
      initializer: "kaiming" (the paper's) or "pytorch" (the published script's).
    """

    spec: MgNetSpec
    num_classes: int
    stem: str = "cifar"
    form: str = "dual"
    unroll: int = 4
    remat: bool = False
    dtype: str = "float32"
    initializer: str = "kaiming"

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        if images.ndim != 4:
            raise ModelError(f"images must be (N, height, width, channels), not {images.shape}")
        if self.dtype == "float64" and not jax.config.read("jax_enable_x64"):
            raise ModelError("dtype='float64' needs jax.config.update('jax_enable_x64', True)")
        spec, init = self.spec, self.initializer
        param_dtype = jnp.float64 if self.dtype == "float64" else jnp.float32
        c_u, c_f = spec.channels[0]
        r = Stem(self.stem, c_f, init, param_dtype, name="stem")(images.astype(self.dtype), train)
        u = jnp.zeros((*r.shape[:-1], c_u), r.dtype)
        for level, (nu, (c_u, c_f)) in enumerate(zip(spec.nu, spec.channels, strict=True), 1):
            if level > 1:
                u, r = Restrict(c_u, c_f, init, param_dtype, name=f"restrict{level - 1}")(
                    u, r, train
                )
            u, r = Smoother(
                nu, c_u, c_f, spec.share_B, self.form, self.unroll, self.remat,
                first=level == 1, initializer=init, param_dtype=param_dtype, name=f"level{level}",
            )(u, r, train)  # fmt: skip
        return Head(self.num_classes, init, param_dtype, name="head")(u)

    def count_parts(self, image_shape: tuple[int, int, int]) -> list[Part]:
        """The parts of the network with their exact costs for one image (height, width, channels).

        Counted from the spec: what the form needs, so that the last A of the coarsest grid,
        whose result nobody reads, is left out.
        """
        spec, (height, width, image_channels) = self.spec, image_shape
        imagenet = self.stem == "imagenet"
        size, stride = (7, 2) if imagenet else (3, 1)
        grid = conv_size((height, width), stride)
        parts = [conv_bn("stem", image_channels, spec.channels[0][1], size, grid)]
        if imagenet:
            grid = conv_size(grid, 2)
            parts[0] = parts[0].with_output(grid)
        for level, (nu, (c_u, c_f)) in enumerate(zip(spec.nu, spec.channels, strict=True), 1):
            last = level == len(spec.nu)
            if level > 1:
                c_u_fine, c_f_fine = spec.channels[level - 2]
                grid = conv_size(grid, 2)
                Pi = conv_bn("Pi", c_u_fine, c_u, 3, grid)
                R = conv_bn("R", c_f_fine, c_f, 3, grid)
                parts.append(Pi.merge(R, f"restrict{level - 1}", "Pi and R, 3x3/2"))
            A_convs = nu - last if self.form == "dual" else nu + (level > 1) + (not last)
            kernel, points = 9 * c_u * c_f, grid[0] * grid[1]
            parts.append(
                Part(
                    name=f"level{level}",
                    detail=f"{nu} steps, A shared, B {'shared' if spec.share_B else 'per step'}",
                    output=(*grid, c_u),
                    parameters=kernel * (1 + (1 if spec.share_B else nu)) + nu * 2 * (c_u + c_f),
                    macs=kernel * points * (nu + A_convs),
                    kept=points * nu * (c_u + c_f) * (1 if self.remat else 2),
                )
            )
        c_u = spec.channels[-1][0]
        parts.append(
            Part(
                name="head",
                detail="average, linear",
                output=(self.num_classes,),
                parameters=(c_u + 1) * self.num_classes,
                macs=c_u * self.num_classes,
                kept=c_u,
            )
        )
        return parts
