"""A convolution as an operator: its Fourier symbol, and what that says of it (NumPy, float64).

On an infinite or a periodic grid the plane wave exp(i (theta_y y + theta_x x)) times a vector of
channels stays one: the convolution multiplies the vector with a matrix, its symbol at that
frequency (local Fourier analysis, Brandt 1977). Kernels are HWIO as in the networks, with the
centre at (h // 2, w // 2).
"""

import dataclasses
import math
from typing import Any

import numpy as np

LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], float)
"""The 5-point stencil of -(d^2/dx^2 + d^2/dy^2) on a grid of spacing 1."""


def frequencies(size: int) -> np.ndarray:
    """The frequencies of a periodic grid of so many points, radians a point, in [-pi, pi)."""
    return 2 * np.pi * np.fft.fftfreq(size)


def symbol(kernel: np.ndarray, theta_y: np.ndarray, theta_x: np.ndarray) -> np.ndarray:
    """The matrix of each frequency, complex (len(theta_y), len(theta_x), c_out, c_in).

    Args:
      kernel: (h, w, c_in, c_out).
      theta_y: frequencies, radians a point.
      theta_x: likewise.
    """
    h, w = kernel.shape[:2]
    waves_y = np.exp(1j * np.outer(theta_y, np.arange(h) - h // 2))
    waves_x = np.exp(1j * np.outer(theta_x, np.arange(w) - w // 2))
    return np.einsum("yh,xw,hwio->yxoi", waves_y, waves_x, np.asarray(kernel, float), optimize=True)


@dataclasses.dataclass(frozen=True)
class Character:
    """What kind of operator a convolution is, over all frequencies of a periodic grid.

    Attributes:
      theta: the frequencies of one axis, ascending, radians a point, (n,).
      largest, smallest: singular value of each frequency, (n, n).
      condition: largest singular value over the smallest, of all frequencies; inf if that is 0.
      asymmetry: ||A - A^T|| / (||A|| + ||A^T||), Frobenius; 0: symmetric, 1: skew; nan if c_in and
        c_out differ.
      nonnormality: ||A^T A - A A^T|| / ||A||^2 of the symbols, Frobenius; 0: normal; nan likewise.
      off_laplacian: share of ||A|| (Frobenius) that is not C L with a number C for each pair of
        channels, and L the 5-point Laplacian; 0: all of A is.
      effective_rank: exp of the entropy of the singular values of each frequency (Roy and
        Vetterli 2007), the mean; from 1 to min(c_in, c_out).
    """

    theta: np.ndarray
    largest: np.ndarray
    smallest: np.ndarray
    condition: float
    asymmetry: float
    nonnormality: float
    off_laplacian: float
    effective_rank: float


def character(kernel: np.ndarray, size: int = 16) -> Character:
    """Examines a convolution on a periodic grid of size x size points.

    Args:
      kernel: (h, w, c_in, c_out); what is said of the Laplacian needs 3x3, and is nan otherwise.
      size: points a side.
    """
    kernel = np.asarray(kernel, float)
    theta = np.sort(frequencies(size))
    matrices = symbol(kernel, theta, theta)
    values = np.linalg.svd(matrices, compute_uv=False)
    low, high = values[..., -1], values[..., 0]
    square = kernel.shape[2] == kernel.shape[3]
    asymmetry = nonnormality = math.nan
    if square:
        adjoint = np.conj(np.swapaxes(matrices, -1, -2))
        norm = np.linalg.norm(matrices)
        asymmetry = float(np.linalg.norm(matrices - adjoint) / (2 * norm)) if norm else 0.0
        gap = np.linalg.norm(adjoint @ matrices - matrices @ adjoint, axis=(-2, -1))
        whole = np.sum(np.linalg.norm(matrices, axis=(-2, -1)) ** 2)
        nonnormality = float(np.sum(gap) / whole) if whole else 0.0
    shares = values / np.maximum(values.sum(-1, keepdims=True), np.finfo(float).tiny)
    entropy = -np.sum(shares * np.log(np.maximum(shares, np.finfo(float).tiny)), -1)
    return Character(
        theta,
        high,
        low,
        float(high.max() / low.min()) if low.min() > 0 else np.inf,
        asymmetry,
        nonnormality,
        _off_laplacian(kernel),
        float(np.mean(np.exp(entropy))),
    )


def _off_laplacian(kernel: np.ndarray) -> float:
    if kernel.shape[:2] != LAPLACIAN.shape:
        return math.nan
    along = np.einsum("hwio,hw->io", kernel, LAPLACIAN) / np.linalg.norm(LAPLACIAN)
    whole = np.linalg.norm(kernel)
    if not whole:
        return 0.0
    return math.sqrt(max(0.0, 1 - float(np.linalg.norm(along) / whole) ** 2))


def symmetric_part(kernel: Any) -> Any:
    """The kernel of (A + A^T) / 2, of (..., h, w, c, c) with odd h and w."""
    turned = kernel[..., ::-1, ::-1, :, :].swapaxes(-1, -2)
    return (kernel + turned) / 2


def smoothing_factor(steps: np.ndarray, theta_y: np.ndarray, theta_x: np.ndarray) -> float:
    """The largest magnitude of an eigenvalue over the high frequencies (Brandt 1977).

    High are those that a grid of twice the spacing does not have: max(|theta_y|, |theta_x|) >=
    pi / 2.

    Args:
      steps: the symbol of a step's error iteration, (len(theta_y), len(theta_x), c, c).
      theta_y: frequencies, radians a point.
      theta_x: likewise.
    """
    largest = np.abs(np.linalg.eigvals(steps)).max(-1)
    high = np.maximum(np.abs(theta_y)[:, None], np.abs(theta_x)) >= np.pi / 2 - 1e-12
    return float(largest[high].max())
