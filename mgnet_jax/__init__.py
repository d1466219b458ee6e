"""MgNet in JAX: constrained linear data-feature mappings as image classifiers.

`create("MgNet[2,2,2,2]-[256]-B^l", num_classes=10)` makes a network, `python -m mgnet_jax.main`
trains one. The paper: He, Xu, Zhang, Zhu, "An Interpretive Constrained Linear Model for ResNet and
MgNet", Neural Networks 2023.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgnet_jax.models import count, create, features, parse
    from mgnet_jax.trained.network import load

__all__ = ["__version__", "count", "create", "features", "load", "parse"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and JAX with it, not before: data workers need neither."""
    if name == "load":
        from mgnet_jax.trained.network import load

        return load
    if name in __all__:
        from mgnet_jax import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names too that are not imported yet."""
    return sorted({*globals(), *__all__})
