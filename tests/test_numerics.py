"""The installed compiler is right on patterns that some release got wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(("dtype", "rows"), [("float32", 32769), ("float64", 16385)])
def test_a_vmapped_matrix_vector_product_squared_and_summed(dtype: str, rows: int) -> None:
    """Wrong on CPUs in jaxlib 0.10.2 (JAX's issue 39103): 1065369600 instead of 1073741824."""
    with jax.enable_x64(dtype == "float64"):
        x = np.zeros((rows, 3), dtype)
        x[:, 0] = np.arange(rows)
        matrix = jnp.eye(3, dtype=dtype)
        length = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))
        np.testing.assert_allclose(length(x), (x**2).sum(1), rtol=1e-6)
