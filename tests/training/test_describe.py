"""What a network is, for people, and what would make its training faster."""

import jax
import pytest
from networks import needs_compiler

import mgnet_jax
from mgnet_jax.data.info import Info
from mgnet_jax.models import count
from mgnet_jax.training.describe import faster_here

INFO = Info("photographs", (32, 32, 3), 10, 50_000, 10_000, (0.5,) * 3, (0.25,) * 3)


def told(epochs: int = 10, **options: str) -> str:
    model = mgnet_jax.create("MgNet[1,1]-[32]-B^l", 10, **options)
    return faster_here(model, INFO, count(model, INFO.image_shape), epochs)


@needs_compiler
def test_a_long_training_on_one_cpu_is_told_of_compiled_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "--config.model.convolution=native" in told()
    assert not told(epochs=0)
    assert not told(convolution="native")
    assert not told(convolution="xla")
    assert not told(dtype="bfloat16")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not told()
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not told()
