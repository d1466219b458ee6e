"""From a grid to the next coarser one, and back."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.layers import Array, Compute, Conv


class Restrict(nn.Module):
    """To the next coarser grid: u' = s(Pi u) and r' = s(R r), 3x3 kernels with stride 2.

    The paper's f' = s(R (f - A u)) + A' u' is r' + A' u': its residual on entry is r' exactly. So
    what the steps add to u' does not depend on u', and a V-cycle, which takes nothing else back,
    begins at u' = 0 (`anew`): of a linear A the full approximation scheme is the correction
    scheme.
    """

    c_u: int
    c_f: int
    anew: bool = False
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, u: Array, r: Array, train: bool) -> tuple[Array, Array]:
        if not self.anew:
            u = Conv(self.c_u, 3, 2, compute=self.compute, name="Pi")(u, train)
        r = Conv(self.c_f, 3, 2, compute=self.compute, name="R")(r, train)
        return jnp.zeros((*r.shape[:-1], self.c_u), r.dtype) if self.anew else u, r


class Prolong(nn.Module):
    """Back to the finer grid: s(Pi^T e), Pi a 3x3 kernel with stride 2, e what was added below.

    The way up is what the paper leaves out of multigrid; s keeps u >= 0 there too.
    """

    compute: Compute = Compute()

    @nn.compact
    def __call__(self, e: Array, fine: Array, train: bool) -> Array:
        Pi = self.compute.kernel(self, "Pi", (3, 3, fine.shape[-1], e.shape[-1]))
        _, transposed = jax.vjp(lambda x: self.compute.conv(x, Pi, 2), fine)
        (x,) = transposed(e)
        return self.compute.norm(train)("bn")(self.compute.kept(x), relu=True)
