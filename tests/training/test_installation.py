"""What is known of an installation, and that its numerics are checked once."""

import json
import re
from pathlib import Path

import jax
import pytest

from mgnet_jax.training import installation, numerics
from mgnet_jax.training.installation import KNOWN_BAD, NumericsError, require_right
from mgnet_jax.training.numerics import Check

ROOT = Path(__file__).parent.parent.parent
RIGHT, WRONG = Check("sum", "float32", 1e-8, 1e-7), Check("sum", "float32", 1e-3, 1e-7)


class Asked:
    """In place of the quick checks: how often they were asked for, and what they find."""

    def __init__(self) -> None:
        self.dtypes: list[str] = []
        self.finds = RIGHT

    def __call__(self, dtype: str, device: jax.Device) -> list[Check]:
        self.dtypes.append(dtype)
        return [RIGHT, self.finds]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(numerics, "quick", asked)
    monkeypatch.setenv("MGNET_NUMERICS", str(tmp_path / "numerics"))
    monkeypatch.setattr(installation, "_right", set())
    return asked


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_right", set())


def test_it_is_checked_once_and_remembered(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    require_right("float32")
    require_right("float32")
    another_process(monkeypatch)
    require_right("float32")
    assert asked.dtypes == ["float32"]
    require_right("bfloat16")
    assert asked.dtypes == ["float32", "bfloat16"]


@pytest.mark.parametrize("what", ["jaxlib", "python", "mgnet_jax"])
def test_another_version_is_checked_again(
    asked: Asked, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_right("float32")
    other = installation.versions() | {what: "9.9"}
    monkeypatch.setattr(installation, "versions", lambda: other)
    require_right("float32")
    assert len(asked.dtypes) == 2


def test_other_flags_are_checked_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    require_right("float32")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    require_right("float32")
    assert len(asked.dtypes) == 1
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    require_right("float32")
    assert len(asked.dtypes) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"right": {"jax": "0"}}', "\udcff"])
def test_a_damaged_file_is_ignored(
    asked: Asked, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_right("float32")
    (file,) = (tmp_path / "numerics").iterdir()
    whole = file.read_text()
    file.write_bytes(text.encode(errors="surrogateescape"))
    another_process(monkeypatch)
    require_right("float32")
    assert len(asked.dtypes) == 2
    assert file.read_text() == whole
    assert json.loads(whole)["right"]["dtype"] == "float32"


def test_what_is_wrong_is_an_error_and_not_remembered(asked: Asked, tmp_path: Path) -> None:
    asked.finds = WRONG
    for _ in range(2):
        with pytest.raises(NumericsError) as caught:
            require_right("float32")
    assert caught.value.exit_code == 1
    assert "sum, float32: error 0.001, bound 1e-07" in str(caught.value)
    assert "remedy: " in str(caught.value)
    assert len(asked.dtypes) == 2
    assert not (tmp_path / "numerics").exists()


def test_a_folder_that_cannot_be_written_is_no_error(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "numerics").touch()
    require_right("float32")
    require_right("float32")
    assert len(asked.dtypes) == 1


def test_a_known_bad_release_is_named_with_its_issue(monkeypatch: pytest.MonkeyPatch) -> None:
    device = jax.local_devices()[0]
    assert installation.known_bad(device) == []
    monkeypatch.setattr(installation, "version", lambda package: "0.10.2")
    (known,) = installation.known_bad(device)
    assert known.issue == 39103
    text = installation.wrong([WRONG], device)
    assert "39103" in text and f"pip install jax=={installation.good_release()}" in text


def test_the_good_release_is_the_one_of_constraints_txt() -> None:
    pins = re.findall(r"^(?:jax|jaxlib)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert installation.good_release() in pins


def test_what_is_known_to_be_bad_on_cpus_is_excluded() -> None:
    """The releases that are wrong on one kind of GPU are not: they may be right elsewhere."""
    project = (ROOT / "pyproject.toml").read_text()
    for known in KNOWN_BAD:
        for release in known.versions:
            assert (f"!={release}" in project) == (known.platform == "cpu")
