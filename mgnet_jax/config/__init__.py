"""What a run is: every key with its default and its meaning, and `validate`.

A file in configs/ starts from `default()`, or from presets made of `recipes`, and changes what it
needs. `validate` checks a whole configuration before any work starts.
"""

from mgnet_jax.config import recipes, shipped
from mgnet_jax.config.key import ConfigError, Key
from mgnet_jax.config.presets import from_preset
from mgnet_jax.config.sections.data import trained_on
from mgnet_jax.config.sections.model import make_model, model_options
from mgnet_jax.config.sections.train import check_last_batch
from mgnet_jax.config.table import KEYS, check_name, default, flatten
from mgnet_jax.config.text import (
    CHANGEABLE,
    RESUMABLE,
    changed,
    changed_text,
    differences,
    from_json,
    repeating,
    resumed,
    to_text,
)
from mgnet_jax.config.validate import validate, wrong_value

__all__ = [
    "CHANGEABLE",
    "KEYS",
    "RESUMABLE",
    "ConfigError",
    "Key",
    "changed",
    "changed_text",
    "check_last_batch",
    "check_name",
    "default",
    "differences",
    "flatten",
    "from_json",
    "from_preset",
    "make_model",
    "model_options",
    "recipes",
    "repeating",
    "resumed",
    "shipped",
    "to_text",
    "trained_on",
    "validate",
    "wrong_value",
]
