"""Whatever a person types or a disk holds, it is a message or a right result: hypothesis looks."""

import random
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgnet_jax.commandline import MISTAKES, exit_code, parse_arguments
from mgnet_jax.config import KEYS, ConfigError, from_json, validate
from mgnet_jax.data import published
from mgnet_jax.data.info import DataError
from mgnet_jax.models import ModelError, parse
from mgnet_jax.training import metrics
from mgnet_jax.training.workdir import saved_config, saved_data

SOME = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck]
)
MANY = settings(SOME, max_examples=2000)

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, 1, -1, 2**31, 2**32 - 1, 2**63, 1e308, 1e-320]),
)
words = st.one_of(
    st.text(max_size=12),
    st.text(string.printable, max_size=20),
    st.sampled_from(["", "nan", "inf", "-0", "None", "True", "()", "1,2", "(1,)", "../x", "\\0"]),
)
values = st.one_of(
    numbers.map(str),
    words,
    st.lists(numbers, max_size=4).map(lambda found: ",".join(map(str, found))),
    st.sampled_from([str(key.default) for key in KEYS.values()]),
)
names = st.one_of(st.sampled_from([*KEYS]), st.sampled_from(["optim.lr", "x", "data", "model."]))
overrides = st.lists(st.tuples(names, values), min_size=1, max_size=4)
PIECES = "MgNet ResNet18 [ ] ( ) , - ^ { } A B l i 2 0 64 9999999999 [2,2] -[16] -B^l -B^{l,i} sKs"
pieces = st.sampled_from([*PIECES.split(), " ", "pre-act "])
notations = st.one_of(st.text(max_size=30), st.lists(pieces, max_size=12).map("".join))


def right_or_told(pairs: list[tuple[str, str]]) -> None:
    arguments = [f"--config.{name}={value}" for name, value in pairs]
    try:
        config = parse_arguments(["main", *arguments])[0].config
        info = validate(config, 1)
    except (ConfigError, DataError, ModelError, *MISTAKES) as error:
        assert exit_code(error) == 2 or isinstance(error, flags.Error)
        assert str(error)
        return
    assert info.num_classes > 0
    for name, key in KEYS.items():
        value: Any = config
        for part in name.split("."):
            value = value[part]
        assert key.allowed(value)


def read_or_told(name: str) -> None:
    try:
        spec = parse(name)
    except ModelError as error:
        assert str(error)
        return
    assert parse(str(spec)) == spec


@SOME
@given(overrides)
def test_configurations(pairs: list[tuple[str, str]]) -> None:
    right_or_told(pairs)


@pytest.mark.slow
@MANY
@given(overrides)
def test_many_configurations(pairs: list[tuple[str, str]]) -> None:
    right_or_told(pairs)


@SOME
@given(notations)
def test_notations(name: str) -> None:
    read_or_told(name)


@pytest.mark.slow
@MANY
@given(notations)
def test_many_notations(name: str) -> None:
    read_or_told(name)


def cifar(count: int = 4) -> bytes:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 3073), np.uint8).tobytes()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, lengthened, with other bytes, or none of it."""
    kind = rng.randrange(5)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        return content + rng.randbytes(rng.randrange(1, 5000))
    if kind == 2:
        return rng.randbytes(rng.randrange(200))
    if kind == 3:
        return bytes(len(content))
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 20)):
        changed[rng.randrange(min(len(changed), 64))] ^= rng.randrange(1, 256)
    return bytes(changed)


@pytest.mark.parametrize("trials", [30, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["cifar", "idx"])
def test_damaged_files_of_data(kind: str, trials: int, tmp_path: Path) -> None:
    """A right shape or a message; changed pixels cannot be seen here, but by checksums."""
    pixels = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 5]) + bytes(range(50))
    labels = tmp_path / "labels"
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 3, 4]))
    for seed in range(trials):
        path = tmp_path / "file"
        path.write_bytes(damaged(cifar() if kind == "cifar" else pixels, random.Random(seed)))
        try:
            if kind == "cifar":
                images, found = published.read_cifar_binary(path, 1)
                assert images.shape[1:] == (32, 32, 3)
            else:
                images, found = published.read_idx(path, labels)
                assert images.ndim == 4
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert images.dtype == np.uint8 and found.ndim == 1


@pytest.mark.parametrize("trials", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_files_of_a_run(trained: Path, trials: int, tmp_path: Path) -> None:
    """Without checkpoints, which would have it all."""
    names = ("config.json", "data.json", "metrics.jsonl")
    for seed in range(trials):
        rng = random.Random(seed)
        name = names[seed % 3]
        for other in names:
            (tmp_path / other).write_bytes((trained / other).read_bytes())
        (tmp_path / name).write_bytes(damaged((trained / name).read_bytes(), rng))
        for read in (saved_config, saved_data, metrics.read_metrics):
            try:
                read(tmp_path)
            except (ConfigError, metrics.LogError) as error:
                assert name in str(error)


def test_a_configuration_that_was_saved_holds_nothing_else() -> None:
    """Neither NaN nor keys of other types come back from JSON unseen."""
    for text in ('{"seed": NaN}', '{"seed": "x"}', '{"seed": null}', "[]", "7", '{"seed": [1]}'):
        with pytest.raises(ConfigError):
            validate(from_json(text), 1)
