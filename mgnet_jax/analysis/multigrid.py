"""Classical multigrid out of the networks' own parts: with linear steps and textbook kernels.

A grid's steps are those of `models.iteration.Level` in the state (u, r), with A and B one kernel
each, no batch norm and no ReLU; R is a 3x3 kernel with stride 2. What MgNet leaves out is the way
back, prolongation and correction, which is here. Grids have 2^k - 1 interior points a side, and u
is 0 around them (Dirichlet).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.analysis.symbol import LAPLACIAN
from mgnet_jax.models.iteration import Level, Scheme
from mgnet_jax.models.layers import Compute
from mgnet_jax.models.maps import Map
from mgnet_jax.models.relaxation import PLAIN, Relaxation

FULL_WEIGHTING = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
"""The restriction whose transpose, times 4, is bilinear interpolation."""


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Grids of a linear problem A u = f with one channel, finest first.

    Attributes:
      A: the 3x3 stencil of each grid.
      B: the 3x3 smoother of each grid, u <- u + B(f - A u).
      before, after: smoothing steps on the way down and on the way up; a V(before, after) cycle.
      relaxation: of the steps, see `models.relaxation`.
      R: the 3x3 restriction of residuals; the prolongation is 4 times its transpose.
    """

    A: Sequence[np.ndarray]
    B: Sequence[np.ndarray]
    before: int = 1
    after: int = 1
    relaxation: Relaxation = PLAIN
    R: np.ndarray = dataclasses.field(default_factory=lambda: FULL_WEIGHTING)


def poisson(
    points: int, before: int = 1, after: int = 1, relaxation: Relaxation | None = None
) -> Hierarchy:
    """The grids of -Laplace u = f on the unit square, 5-point stencils, and B = 1 / diagonal of A.

    Args:
      points: interior ones a side of the finest grid, 2^k - 1; the coarsest grid has one.
      before: smoothing steps on the way down.
      after: those on the way up.
      relaxation: default: damped with omega = 4/5, the best damped Jacobi.

    Raises:
      ValueError: there are not 2^k - 1 points.
    """
    if points < 1 or (points + 1) & points:
        raise ValueError(f"points={points} must be 2^k - 1, as 15, 31 or 63")
    A, center = [], np.zeros((3, 3))
    center[1, 1] = 1
    n = points
    while n:
        A.append(LAPLACIAN * (n + 1) ** 2)
        n //= 2
    B = [center / stencil[1, 1] for stencil in A]
    return Hierarchy(A, B, before, after, relaxation or Relaxation("damped", (0.8,)))


def v_cycle(grids: Hierarchy, u: jax.Array, f: jax.Array) -> jax.Array:
    """One V-cycle: u (N, n, n, 1) to a better u of A u = f; f likewise, of the finest grid."""
    compute = Compute(param_dtype=f.dtype, convolution="xla")
    r = f - compute.conv(u, _kernel(grids.A[0]))
    return _cycle(grids, compute, 0, u, r)[0]


def _kernel(stencil: np.ndarray) -> jax.Array:
    return jnp.asarray(stencil, float)[..., None, None]


def _cycle(
    grids: Hierarchy, compute: Compute, level: int, u: jax.Array, r: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The cycle from a grid on, in the state (u, r)."""
    A, B, R = (_kernel(x) for x in (grids.A[level], grids.B[level], grids.R))
    if level + 1 == len(grids.A):  # one point
        return u + r / A[1, 1, 0, 0], jnp.zeros_like(r)
    scheme = Scheme(Map("K"), Map("K"), relaxation=grids.relaxation)
    kernels = {"params": {"A": A, "B": B}}

    def smooth(count: int, u: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        return Level(scheme, count, 1, 1, compute=compute).apply(kernels, u, r, False)  # type: ignore[return-value]

    def restrict(r: jax.Array) -> jax.Array:
        return compute.conv(r, R, 2, padding=0)

    u, r = smooth(grids.before, u, r)
    coarse, transposed = jax.vjp(restrict, r)
    correction, _ = _cycle(grids, compute, level + 1, jnp.zeros_like(coarse), coarse)
    (fine,) = transposed(correction)
    return smooth(grids.after, u + 4 * fine, r - compute.conv(4 * fine, A))
