"""The textbook's multigrid in the networks' parts, against dense matrices and known numbers."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgnet_jax.analysis.multigrid import FULL_WEIGHTING, poisson, v_cycle
from mgnet_jax.analysis.symbol import LAPLACIAN, smoothing_factor, symbol
from mgnet_jax.models.iteration import Level, Scheme
from mgnet_jax.models.layers import Compute
from mgnet_jax.models.maps import Map, Polynomial
from mgnet_jax.models.relaxation import Relaxation

JACOBI = Relaxation("damped", (0.8,))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def laplacian(n: int) -> np.ndarray:
    """The 5-point matrix on n x n interior points of the unit square."""
    one = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return (np.kron(one, np.eye(n)) + np.kron(np.eye(n), one)) * (n + 1) ** 2


def restriction(n: int) -> np.ndarray:
    """Full weighting from n x n to (n // 2) x (n // 2) points."""
    line = np.zeros((n // 2, n))
    for i in range(n // 2):
        line[i, 2 * i : 2 * i + 3] = 0.25, 0.5, 0.25
    return np.kron(line, line)


def error_matrix(n: int, before: int, after: int, omega: float) -> np.ndarray:
    """What a V-cycle leaves of an error, built from dense matrices on every grid."""
    A = laplacian(n)
    if n == 1:
        return np.zeros((1, 1))
    S = np.eye(n * n) - omega * A / A[0, 0]
    R = restriction(n)
    coarse = (np.eye((n // 2) ** 2) - error_matrix(n // 2, before, after, omega)) @ np.linalg.inv(
        laplacian(n // 2)
    )
    correct = np.eye(n * n) - 4 * R.T @ coarse @ R @ A
    return np.linalg.matrix_power(S, after) @ correct @ np.linalg.matrix_power(S, before)


def our_error_matrix(n: int, **options: object) -> np.ndarray:
    """The same of our cycle: unit errors, each an image, with f = 0."""
    units = jnp.eye(n * n).reshape(n * n, n, n, 1)
    grids = poisson(n, **options)  # type: ignore[arg-type]
    left = jax.jit(lambda u: v_cycle(grids, u, jnp.zeros_like(u)))(units)
    return np.asarray(left).reshape(n * n, n * n).T


def radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


@pytest.mark.parametrize("n", [15, pytest.param(31, marks=pytest.mark.slow)])
def test_a_v_cycle_is_that_of_dense_matrices(n: int) -> None:
    ours, expected = our_error_matrix(n), error_matrix(n, 1, 1, 0.8)
    assert np.abs(ours - expected).max() < 1e-10
    assert abs(radius(ours) - radius(expected)) < 1e-10
    assert 0.3 < radius(ours) < 0.42  # two grids alone: 0.36 (Trottenberg et al. 2001)


@pytest.mark.slow
def test_it_converges_at_a_rate_that_does_not_depend_on_the_grid() -> None:
    chebyshev = Relaxation("chebyshev", (0.5, 2.0))  # the high frequencies of D^-1 A
    rates = []
    for n in (15, 31, 63, 127, 255):
        grids = poisson(n, 2, 2, chebyshev)
        cycle = jax.jit(lambda u, grids=grids: v_cycle(grids, u, jnp.zeros_like(u)))
        u = jnp.asarray(np.random.default_rng(0).normal(size=(1, n, n, 1)))
        norms = [float(jnp.linalg.norm(u))]
        for _ in range(10):
            u = cycle(u)
            norms.append(float(jnp.linalg.norm(u)))
        rates.append((norms[-1] / norms[4]) ** (1 / 6))
    assert max(rates) <= 0.15
    assert max(rates) - min(rates) < 0.05


def test_the_solution_of_a_problem_that_is_known() -> None:
    n = 31
    x = np.arange(1, n + 1) / (n + 1)
    exact = np.sin(np.pi * x)[:, None] * np.sin(2 * np.pi * x)
    f = (laplacian(n) @ exact.ravel()).reshape(1, n, n, 1)
    u, grids = jnp.zeros((1, n, n, 1)), poisson(n)
    cycle = jax.jit(lambda u: v_cycle(grids, u, jnp.asarray(f)))
    for _ in range(25):
        u = cycle(u)
    np.testing.assert_allclose(u[0, ..., 0], exact, atol=1e-9)


def test_sizes_without_coarser_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points=16 must be 2\^k - 1"):
        poisson(16)


def test_damped_jacobis_smoothing_factor() -> None:
    theta = np.linspace(-np.pi, np.pi, 65)
    A = symbol(LAPLACIAN[..., None, None], theta, theta)
    found = {
        omega: smoothing_factor(1 - omega * A / 4, theta, theta) for omega in (0.7, 0.8, 0.9, 1.0)
    }
    assert abs(found[0.8] - 3 / 5) < 1e-12
    assert found[0.8] == min(found.values())
    assert abs(found[1.0] - 1) < 1e-12


def steps(relaxation: Relaxation, count: int, u: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Smoothing steps of the Poisson stencil with B the inverse diagonal, by a level in state u."""
    kernels = {"A": LAPLACIAN, "B": np.diag([0, 0.25, 0])}
    params = {name: jnp.asarray(k, float)[..., None, None] for name, k in kernels.items()}
    scheme = Scheme(Map("K"), Map("K"), form="direct", relaxation=relaxation)
    level = Level(scheme, count, 1, 1, compute=Compute(param_dtype=jnp.float64))
    n = u.shape[0]
    A = laplacian(n) / (n + 1) ** 2
    r = f.ravel() - A @ u.ravel()
    found, _ = level.apply(
        {"params": params},
        jnp.asarray(u)[None, ..., None],
        jnp.asarray(r).reshape(1, n, n, 1),
        False,
    )
    return np.asarray(found)[0, ..., 0]


def test_chebyshev_takes_each_mode_down_by_its_polynomial() -> None:
    n, a, b = 9, 0.2, 1.9
    for degree in (1, 2, 5):
        for p, q in ((1, 1), (3, 2), (9, 9)):
            x = np.arange(1, n + 1) * np.pi / (n + 1)
            mode = np.sin(p * x)[:, None] * np.sin(q * x)
            value = 1 - (np.cos(p * np.pi / (n + 1)) + np.cos(q * np.pi / (n + 1))) / 2
            left = steps(Relaxation("chebyshev", (a, b)), degree, mode, np.zeros((n, n)))
            T = np.polynomial.chebyshev.Chebyshev.basis(degree)
            factor = T((b + a - 2 * value) / (b - a)) / T((b + a) / (b - a))
            np.testing.assert_allclose(left, factor * mode, atol=1e-13)
            if a <= value <= b:  # Chebyshev's bound
                assert abs(factor) <= 1 / abs(T((b + a) / (b - a))) + 1e-13


@pytest.mark.parametrize(
    ("relaxation", "alpha", "beta"),
    [
        (JACOBI, 0.8, 0.0),
        (Relaxation("two-step", (0.9, 0.3)), 0.9, 0.3),
        (Relaxation(), 1.0, 0.0),
    ],
    ids=str,
)
def test_steps_are_the_recursion(relaxation: Relaxation, alpha: float, beta: float) -> None:
    n = 6
    rng = np.random.default_rng(0)
    u, f = rng.normal(size=(2, n, n))
    A = laplacian(n) / (n + 1) ** 2
    expected, added = u.ravel(), np.zeros(n * n)
    for _ in range(4):
        added = alpha * (f.ravel() - A @ expected) / 4 + beta * added
        expected = expected + added
    np.testing.assert_allclose(steps(relaxation, 4, u, f).ravel(), expected, atol=1e-12)


def test_a_polynomial_in_A_is_that_of_its_matrix() -> None:
    n, c = 5, np.array([0.7, -0.3, 0.1])
    A = laplacian(n) / (n + 1) ** 2
    x = np.random.default_rng(0).normal(size=(n, n))
    kernel = jnp.asarray(LAPLACIAN)[..., None, None]
    found = Polynomial(2)(
        jnp.asarray(x)[None, ..., None],
        (kernel, jnp.asarray(c)),
        Compute(param_dtype=jnp.float64),
        lambda name: lambda y, relu: y,
        "r B",
    )
    expected = (c[0] * np.eye(n * n) + c[1] * A + c[2] * A @ A) @ x.ravel()
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, atol=1e-12)


def test_full_weighting_is_a_mean() -> None:
    assert FULL_WEIGHTING.sum() == 1
    np.testing.assert_array_equal(FULL_WEIGHTING, FULL_WEIGHTING.T)
