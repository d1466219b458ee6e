"""Which folders are packages; everything else is in pyproject.toml.

configs/ is installed as mgnet_jax.configs, beside the code that looks for it there.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mgnet_jax", "mgnet_jax.*"]), "mgnet_jax.configs"],
    package_dir={"mgnet_jax.configs": "configs"},
    package_data={
        "mgnet_jax": ["py.typed"],
        "mgnet_jax.config": ["paper.json"],
        "mgnet_jax.models": ["compiled/*"],
    },
)
