"""A smoothing step as a linear iteration: what it does to a small error.

At an image the batch norms are affine (running statistics) and each ReLU passes or stops a pixel,
so that a step is linear around its state: u + e becomes u' + E e, with E = I - B' A for the
iteration u <- u + B(f - A u), B' being B with its active set. Where the networks are written in r
alone, E is that of r. E is applied as a Jacobian, on the grid as it is, zero padding included.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

from mgnet_jax.analysis.parts import kernel_of, scheme_of, step_variables, steps_of
from mgnet_jax.models import Network

Map = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Linearised:
    """A step around its state at one image.

    Attributes:
      state: what the step acts on, "u" or "r"; of steps that remember u beside what the step
        before added to it, in 2 c channels.
      shape: of the state, (1, H, W, c).
      apply: E e, for e of that shape.
    """

    state: str
    shape: tuple[int, ...]
    apply: Map


def linearise(model: Network, variables: Any, seen: Any, level: str, step: int) -> Linearised:
    """Linearises a step of a network around what it makes of an image.

    Args:
      model: the network.
      variables: of it.
      seen: the features of one image, (1, H, W, C), see `models.features`.
      level: the grid.
      step: which of its repeated steps, from 0.

    Raises:
      ModelError: the network is not made of steps with A and B.
    """
    scheme, here = scheme_of(model), seen[level]
    # said of u where there is a system A u = f, else of r
    state, form = ("u", "direct") if "f" in here else ("r", "dual")
    scheme = dataclasses.replace(scheme, form=form)
    module = scheme.step(scheme, False, dataclasses.replace(model.compute, remat="none"))
    own = step_variables(variables, level, step)
    A, B = (kernel_of(variables, level, name, step) for name in "AB")
    weights = scheme.relaxation.weights(steps_of(variables, level))
    weights = None if weights is None else weights[step]

    def run(value: jax.Array) -> jax.Array:
        value, *before = jnp.split(value, 2, -1) if scheme.relaxation.remembers else [value]
        begun = (value, here["f"]) if form == "direct" else (None, value)
        carry = (*scheme.step.begin(*begun), *before)
        carry, _ = module.apply(own, carry, A, B, weights)
        u, r = scheme.step.end(carry)
        return jnp.concatenate([u if form == "direct" else r, *carry[2:]], -1)

    at = here[state][step]
    if scheme.relaxation.remembers:
        before = at - here[state][step - 1] if step else jnp.zeros_like(at)
        at = jnp.concatenate([at, before], -1)
    _, push = jax.linearize(run, at)
    return Linearised(state, at.shape, jax.jit(push))


def eigenvalues(linear: Linearised, count: int = 1, seed: int = 0) -> np.ndarray:
    """The eigenvalues of E of largest magnitude, complex (count,), largest first (Arnoldi, ARPACK).

    Of a grid with so few numbers that ARPACK does not take it, all are computed.

    Args:
      linear: E.
      count: how many.
      seed: of the vector that it starts from.

    Raises:
      ArpackNoConvergence: none was found in 10 times as many iterations as E has rows.
    """
    size = int(np.prod(linear.shape))
    dtype = np.dtype(jnp.zeros(0, float).dtype)

    def times(e: np.ndarray) -> np.ndarray:
        found = linear.apply(jnp.asarray(e.reshape(linear.shape), dtype))
        return np.asarray(found, dtype).ravel()

    if size <= max(32, 2 * count + 2):
        values = np.linalg.eigvals(np.stack([times(e) for e in np.eye(size)], -1))
    else:
        operator = LinearOperator((size, size), matvec=times, dtype=dtype)
        start = np.random.default_rng(seed).normal(size=size).astype(dtype)
        try:
            tolerance = 1e-9 if dtype == np.float64 else 1e-4
            vectors = min(size, max(4 * count, 40))
            values = eigs(
                operator, count, v0=start, ncv=vectors, tol=tolerance, return_eigenvectors=False
            )
        except ArpackNoConvergence as error:
            if not len(error.eigenvalues):
                raise
            values = error.eigenvalues
    return values[np.argsort(-np.abs(values), kind="stable")][:count]


def spectral_radius(linear: Linearised, seed: int = 0) -> float:
    """The largest magnitude of an eigenvalue of E: the factor of an error per step, in the end."""
    return float(np.abs(eigenvalues(linear, 1, seed)[0]))


def damping(linear: Linearised, bands: int = 8, vectors: int = 4, seed: int = 0) -> np.ndarray:
    """||E e|| / ||e|| of errors that are random in a band of frequencies, low to high.

    Band k holds the frequencies with pi k / bands <= max(|theta_y|, |theta_x|) < pi (k + 1) /
    bands, the last one pi too; 1 means that a step leaves such errors as large as they are.

    Args:
      linear: E.
      bands: how many, at most; half as many as the grid's shorter side has points, if those are
        fewer.
      vectors: random errors of each, over which it is averaged.
      seed: of these.
    """
    _, height, width, channels = linear.shape
    bands = max(1, min(bands, height // 2, width // 2))
    y, x = (np.abs(np.fft.fftfreq(n)) * 2 for n in (height, width))
    part = np.maximum(y[:, None], x[None, :])  # of pi
    band = np.minimum((part * bands + 1e-9).astype(int), bands - 1)
    rng, found = np.random.default_rng(seed), np.zeros(bands)
    for k in range(bands):
        ratios = []
        for _ in range(vectors):
            noise = np.fft.fft2(rng.normal(size=(height, width, channels)), axes=(0, 1))
            error = np.fft.ifft2(noise * (band == k)[..., None], axes=(0, 1)).real
            e = jnp.asarray(error[None], float)
            ratios.append(float(jnp.linalg.norm(linear.apply(e)) / jnp.linalg.norm(e)))
        found[k] = np.mean(ratios)
    return found
