"""Fourier symbols against formulas and against the matrix of the convolution on a periodic grid."""

import numpy as np
import pytest

from mgnet_jax.analysis.symbol import LAPLACIAN, character, frequencies, symbol, symmetric_part

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 3))


def circulant(kernel: np.ndarray, size: int) -> np.ndarray:
    """The matrix of a convolution on a periodic grid, (points, c_out, points, c_in)."""
    h, w, c_in, c_out = kernel.shape
    matrix = np.zeros((size, size, c_out, size, size, c_in))
    for y in range(size):
        for x in range(size):
            for i in range(h):
                for j in range(w):
                    there = (y + i - h // 2) % size, (x + j - w // 2) % size
                    matrix[y, x, :, there[0], there[1], :] += kernel[i, j].T
    return matrix.reshape(size * size * c_out, size * size * c_in)


def test_the_poisson_stencils_symbol() -> None:
    theta = np.linspace(-np.pi, np.pi, 13)
    found = symbol(LAPLACIAN[..., None, None], theta, theta)[..., 0, 0]
    expected = 4 - 2 * np.cos(theta)[:, None] - 2 * np.cos(theta)
    assert np.abs(found - expected).max() < 1e-12


def test_singular_values_are_those_of_the_circulant_matrix() -> None:
    theta = frequencies(6)
    found = np.linalg.svd(symbol(KERNEL, theta, theta), compute_uv=False).ravel()
    expected = np.linalg.svd(circulant(KERNEL, 6), compute_uv=False)
    np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-10)


def test_eigenvalues_are_those_of_the_circulant_matrix() -> None:
    kernel, theta = KERNEL[..., :2], frequencies(5)
    found = np.linalg.eigvals(symbol(kernel, theta, theta)).ravel()
    expected = np.linalg.eigvals(circulant(kernel, 5))
    apart = np.abs(found[:, None] - expected)
    assert apart.min(0).max() < 1e-10 and apart.min(1).max() < 1e-10


def test_a_multiple_of_the_laplacian_is_known_as_one() -> None:
    multiples = np.array([[2.0, 1.0], [1.0, -3.0]])
    kernel = LAPLACIAN[..., None, None] * multiples
    found = character(kernel, 8)
    assert found.off_laplacian < 1e-7
    assert found.asymmetry < 1e-12 and found.nonnormality < 1e-12
    assert found.largest.max() == pytest.approx(8 * np.abs(np.linalg.eigvals(multiples)).max())
    assert found.condition == np.inf  # constants are in its kernel
    kernel[0, 0] = 5.0
    assert 0.1 < character(kernel, 8).off_laplacian < 1


def test_the_character_of_simple_operators() -> None:
    identity = np.zeros((3, 3, 4, 4))
    identity[1, 1] = np.eye(4)
    found = character(identity)
    assert found.condition == pytest.approx(1) and found.effective_rank == pytest.approx(4)
    one_channel = np.zeros((3, 3, 4, 4))
    one_channel[1, 1, 2, 1] = 1.0
    assert character(one_channel).effective_rank == pytest.approx(1)
    shift = np.zeros((3, 3, 1, 1))
    shift[1, 2], shift[1, 0] = 1.0, -1.0  # a central difference is skew
    assert character(shift).asymmetry == pytest.approx(1)
    assert np.isnan(character(KERNEL).asymmetry)


def test_the_symmetric_part_is_that_of_the_matrix() -> None:
    kernel = KERNEL[..., :2]
    matrix = circulant(kernel, 4)
    expected = (matrix + matrix.T) / 2
    np.testing.assert_allclose(circulant(symmetric_part(kernel), 4), expected, atol=1e-12)
    both = np.stack([kernel, 2 * kernel])
    np.testing.assert_allclose(symmetric_part(both)[1], 2 * symmetric_part(kernel))
