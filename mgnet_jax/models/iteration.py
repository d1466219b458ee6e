"""The smoothing iteration of one grid, A u = f under u >= 0: the core of every network here.

A grid owns its kernels A and B; `nn.scan` runs a step that owns only its two batch norms, so the
parameters of the norms and their statistics are stacked (nu, c) while A is one kernel. The state
between grids is always (u, r) with the residual r = f - A u. Inside a grid the state lives in

- the direct form (Algorithm 2): f is kept and r recomputed, u <- u + s(B s(f - A u));
- the dual form (Theorem 4.1): r is kept and f is never formed, r <- r - A s(B s(r)). A is linear,
  so this is the same function of the same parameters, with about three quarters of the work.

Here s is batch norm followed by ReLU: before B on the residual, and after B.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.layers import Array, BatchNorm, ConvBNReLU, conv, kernel_init

FORMS = ("dual", "direct")


class Step(nn.Module):
    """One smoothing step; carries (u, r) in the dual form and (u, f) in the direct form."""

    form: str
    train: bool
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, carry: tuple[Array, Array], A: Array, B: Array
    ) -> tuple[tuple[Array, Array], None]:
        u, data = carry
        r = data if self.form == "dual" else data - conv(u, A)
        r = nn.relu(BatchNorm(self.param_dtype, name="bn_r")(r, self.train))
        d = nn.relu(BatchNorm(self.param_dtype, name="bn_B")(conv(r, B), self.train))
        if self.form == "dual":
            data = data - conv(d, A)
        return (u + d, data), None


class Smoother(nn.Module):
    """All nu smoothing steps of one grid: (u, r) to (u, r).

    Attributes:
      nu: smoothing steps.
      c_u, c_f: channels of u (N, H, W, c_u) and of f and r (N, H, W, c_f).
      share_B: one B for all steps, or one a step.
      form: "dual" or "direct".
      unroll: up to so many steps are compiled as straight-line code, more as a loop. A choice of
        speed alone: the parameters and the function stay the same.
      remat: recompute a step's activations in the backward pass instead of keeping them; the loop
        is then not unrolled.
      first: u is zero on entry, so that f = r.
    """

    nu: int
    c_u: int
    c_f: int
    share_B: bool
    form: str = "dual"
    unroll: int = 1
    remat: bool = False
    first: bool = False
    initializer: str = "kaiming"
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, u: Array, r: Array, train: bool) -> tuple[Array, Array]:
        A = self.param(
            "A", kernel_init(self.initializer), (3, 3, self.c_u, self.c_f), self.param_dtype
        )
        B_shape = (
            (3, 3, self.c_f, self.c_u) if self.share_B else (self.nu, 3, 3, self.c_f, self.c_u)
        )
        B = self.param(
            "B", kernel_init(self.initializer, not self.share_B), B_shape, self.param_dtype
        )
        step = nn.scan(
            nn.remat(Step, prevent_cse=False) if self.remat else Step,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast if self.share_B else 0),
            length=self.nu,
            # outside a loop XLA would find the recomputed values again and keep them
            unroll=self.nu if self.nu <= self.unroll and not self.remat else 1,
        )(self.form, train, self.param_dtype, name="step")
        if self.form == "dual":
            (u, r), _ = step((u, r), A, B)
            return u, r
        f = r if self.first else r + conv(u, A)
        (u, f), _ = step((u, f), A, B)
        return u, f - conv(u, A)


class Restrict(nn.Module):
    """To the next coarser grid: u' = s(Pi u) and r' = s(R r), 3x3 kernels with stride 2.

    The paper's f' = s(R (f - A u)) + A' u' is r' + A' u': its residual on entry is r' exactly.
    """

    c_u: int
    c_f: int
    initializer: str = "kaiming"
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, u: Array, r: Array, train: bool) -> tuple[Array, Array]:
        u = ConvBNReLU(self.c_u, 3, 2, self.initializer, self.param_dtype, name="Pi")(u, train)
        r = ConvBNReLU(self.c_f, 3, 2, self.initializer, self.param_dtype, name="R")(r, train)
        return u, r
