"""Starting from weights: what is taken, what stays, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from commands import command, records

import mgnet_jax
from mgnet_jax.config import ConfigError, default
from mgnet_jax.training.optim import frozen, make_optimizer
from mgnet_jax.weights import folder
from mgnet_jax.weights.facts import Facts, Weights

SMALL = (
    "--config.model.spec=MgNet[1,1]-[8]-B^l",
    "--config.train.epochs=1",
    "--config.optim.warmup_epochs=0",
)


@pytest.fixture(scope="module")
def given(uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("given")
    assert command(uninterrupted, "--mode=export", f"--out={out}") == 0
    return out


@pytest.mark.parametrize("form", ["run", "export"])
def test_a_rate_of_zero_gives_back_what_it_started_from(
    uninterrupted: Path, given: Path, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = uninterrupted if form == "run" else given
    # the flag as people say it: `from` is a word of Python
    flags = (f"--config.init.from={source}", "--config.optim.learning_rate=0")
    assert command(tmp_path / "run", *SMALL, *flags) == 0
    assert f"({source})." in capsys.readouterr().out
    before, after = mgnet_jax.load(source).arrays, mgnet_jax.load(tmp_path / "run").arrays
    for name, x in after.items():
        if name.startswith("params/"):
            np.testing.assert_array_equal(x, before[name])
        else:  # the statistics go on
            assert not np.array_equal(x, before[name])


def test_it_starts_better_than_from_random_numbers(uninterrupted: Path, tmp_path: Path) -> None:
    assert command(tmp_path / "a", *SMALL, f"--config.init.source={uninterrupted}") == 0
    assert command(tmp_path / "b", *SMALL) == 0
    first = [records(tmp_path / name)[0]["loss"] for name in "ab"]
    assert first[0] < 0.9 * first[1]


def test_frozen_parameters_stay_and_others_do_not(uninterrupted: Path, tmp_path: Path) -> None:
    freeze = "--config.init.freeze=stem/*, level?/A"
    flags = (f"--config.init.source={uninterrupted}", freeze, "--config.train.ema_decay=0.9")
    assert command(tmp_path / "run", *SMALL, *flags) == 0
    before, after = (mgnet_jax.load(x).arrays for x in (uninterrupted, tmp_path / "run"))
    same = {
        n for n, x in after.items() if n.startswith("params") and np.allclose(x, before[n], 1e-5)
    }
    assert same == {
        *("params/stem/conv/kernel", "params/stem/conv/bn/scale", "params/stem/conv/bn/bias"),
        *("params/level1/A", "params/level2/A"),
    }


def test_a_pattern_that_fits_nothing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "run", *SMALL, "--config.init.freeze=stm/*") == 2
    assert "'stm/*' fits no parameter; there are those in head, level1" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="fits no parameter"):
        frozen({"a": {"b": 1}}, "b")


def test_without_patterns_the_optimiser_is_the_same_tree() -> None:
    params = {"kernel": np.zeros((2, 2), np.float32)}
    states = [make_optimizer(default().optim, 0.1, f).init(params) for f in ("", "kernel")]
    assert len(states[0]) == 3 and len(states[1]) == 4


def facts(**changed: object) -> Facts:
    known = {"spec": "MgNet[1,1]-[8]-B^l", "stem": "cifar", "num_classes": 10}
    known |= {"image_shape": (8, 8, 1), "mean": (0.25,), "std": (0.5,)}
    return Facts(**(known | changed))


def write(weights: Weights, path: Path) -> None:
    path.mkdir()
    for name, content in folder.content(weights).items():
        (path / name).write_bytes(content)


def test_other_classes_get_a_new_head(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(folder.read(given).variables)
    arrays["params/head/linear/kernel"] = np.zeros((8, 3), np.float32)
    arrays["params/head/linear/bias"] = np.zeros(3, np.float32)
    write(Weights(facts(num_classes=3), arrays), tmp_path / "three")
    names = tuple("abcdefghij")
    write(Weights(facts(class_names=names), folder.read(given).variables), tmp_path / "letters")
    for other in ("three", "letters"):
        flags = (f"--config.init.source={tmp_path / other}", "--config.optim.learning_rate=0")
        assert command(tmp_path / f"from-{other}", *SMALL, *flags) == 0
        assert "a new head for 10 classes" in capsys.readouterr().out
        after = mgnet_jax.load(tmp_path / f"from-{other}").arrays
        head, kernel = "params/head/linear/kernel", "params/stem/conv/kernel"
        np.testing.assert_array_equal(after[kernel], arrays[kernel])
        assert not np.array_equal(after[head], folder.read(given).variables[head])


def test_the_scale_of_the_weights_is_that_of_the_run_and_stays_it(
    given: Path, tmp_path: Path
) -> None:
    write(Weights(facts(), folder.read(given).variables), tmp_path / "scaled")
    flags = (f"--config.init.source={tmp_path / 'scaled'}", "--config.checkpoint.every_steps=10")
    run = tmp_path / "run"
    assert command(run, *SMALL, *flags) == 0
    config = mgnet_jax.load(run).config
    assert (config.data.mean, config.data.std) == ((0.25,), (0.5,))
    assert mgnet_jax.load(run).facts.mean == (0.25,)
    (tmp_path / "scaled" / "model.json").unlink()  # to go on it takes the weights no more
    assert command(run, *SMALL, *flags) == 0
    own = ("--config.data.mean=0.5,", "--config.data.std=0.5,")
    assert command(tmp_path / "own", *SMALL, f"--config.init.source={given}", *own) == 0
    assert mgnet_jax.load(tmp_path / "own").facts.mean == (0.5,)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.init.source=/nowhere"], "/nowhere is not there: give the workdir of a run"),
        (["--config.init.checkpoint=best"], "config.init.source names, and it names none"),
        (["--config.init.checkpoint=first"], "must be 'last', 'best' or the number of a step"),
    ],
)
def test_mistakes(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path / "run", *SMALL, *flags) == 2
    assert words in capsys.readouterr().err


def test_weights_of_another_network_are_refused_with_what_to_set(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ("--config.model.spec=MgNet[1,1]-[4]-B^l", f"--config.init.source={given}")
    assert command(tmp_path / "run", *SMALL, *other) == 2
    assert "Set config.model.spec='MgNet[1,1]-[8]-B^l'" in capsys.readouterr().err
