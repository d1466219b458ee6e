"""MgNet in JAX: constrained linear data-feature mappings as image classifiers.

`create("MgNet[2,2,2,2]-[256]-B^l", num_classes=10)` makes a network, `python -m mgnet_jax.main`
trains one. The paper: He, Xu, Zhang, Zhu, "An Interpretive Constrained Linear Model for ResNet and
MgNet", Neural Networks 2023.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgnet_jax.models import create

__all__ = ["__version__", "create"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `create`, and JAX with it, when it is first asked for: data workers need neither."""
    if name == "create":
        from mgnet_jax.models import create

        return create
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
