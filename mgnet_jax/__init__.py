"""MgNet in JAX: constrained linear data-feature mappings as image classifiers.

`create("MgNet[2,2,2,2]-[256]-B^l", num_classes=10)` makes a network, `python -m mgnet_jax.main`
trains one. The paper: He, Xu, Zhang, Zhu, "An Interpretive Constrained Linear Model for ResNet and
MgNet", Neural Networks 2023.
"""

from mgnet_jax.models import create

__all__ = ["__version__", "create"]

__version__ = "0.1.0"
