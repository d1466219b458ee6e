"""What is installed here, what is known to be wrong with it, and whether it was found right."""

import dataclasses
import hashlib
import json
import os
import platform
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from mgnet_jax.models import kept
from mgnet_jax.training import watch
from mgnet_jax.training.files import replace_file
from mgnet_jax.training.progress import say

if TYPE_CHECKING:
    from mgnet_jax.training.numerics import Check

PACKAGES = ("mgnet_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FOLDER = "MGNET_NUMERICS"
"""The environment variable that names another folder of what was found right."""


class NumericsError(RuntimeError):
    """This installation computes wrong; the message says what to install."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Known:
    """Releases that compute wrong.

    Attributes:
      package: its name.
      versions: the releases.
      platform: of the devices on which they do, as JAX calls it.
      issue: its number at JAX's.
      wrong: what is wrong.
      remedy: what there is besides another release, if anything.
    """

    package: str
    versions: tuple[str, ...]
    platform: str
    issue: int
    wrong: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.package} {', '.join(self.versions)} on {self.platform}: {self.wrong} "
        text += f"(JAX's issue {self.issue})"
        return f"{text}; {self.remedy}" if self.remedy else text


KNOWN_BAD = (
    Known(
        "jaxlib",
        ("0.10.2",),
        "cpu",
        39103,
        "many matrix-vector products, squared and summed, are wrong under jit",
        "with XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= that pattern is right",
    ),
    Known(
        "jaxlib",
        ("0.11.0", "0.11.1"),
        "gpu",
        40633,
        "operations outside jit were reported wrong on one kind of GPU, an RTX A6000 with CUDA 13",
    ),
)


def good_release() -> str:
    """The release of JAX that the tests passed with on this Python, as in constraints.txt."""
    return "0.10.1" if sys.version_info < (3, 12) else "0.12.0.1"


def remedy() -> str:
    """What to install instead."""
    good = good_release()
    if version("jax") == version("jaxlib") == good:
        return (
            "these are the releases that the tests passed with: leave out what XLA_FLAGS asks "
            "for, try another machine, and report it"
        )
    return (
        f"pip install jax=={good} jaxlib=={good}, for an accelerator with its extra, as "
        f"'jax[cuda12]=={good}'"
    )


def known_bad(device: jax.Device) -> list[Known]:
    """What is known to be wrong with what is installed, on such a device."""
    return [
        known
        for known in KNOWN_BAD
        if device.platform == known.platform and version(known.package) in known.versions
    ]


def versions() -> dict[str, str]:
    """The version of Python and of each package that matters; "-" if it is not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "-"
    return found


@cache
def processor() -> str:
    """Eight digits that stand for the instructions that this machine's processor has."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return hashlib.sha256(features.encode()).hexdigest()[:8]


def require_right(dtype: str) -> None:
    """Checks the numerics of each kind of local device, if that was not done before.

    What was found right is kept in this process and in a small file for each installation, kind of
    device and type, in ~/.cache/mgnet_jax/numerics or the folder that MGNET_NUMERICS names. A
    folder that cannot be written to is no error.

    Args:
      dtype: of the activations, as in `model.dtype`.

    Raises:
      NumericsError: a check is wrong.
    """
    for device in {device.device_kind: device for device in jax.local_devices()}.values():
        key = _key(device, dtype)
        file = kept.folder("numerics", FOLDER) / f"{_digest(key)}.json"
        if _digest(key) in _right or _read(file) == key:
            continue
        from mgnet_jax.training.numerics import quick

        watch.alive()
        start = time.monotonic()
        if bad := [check for check in quick(dtype, device) if not check.ok]:
            raise NumericsError(wrong(bad, device))
        seconds = time.monotonic() - start
        watch.alive()
        say(f"checked once, in {seconds:.1f} s: JAX computes right on {device.device_kind}")
        _right.add(_digest(key))
        _write(file, key)


def wrong(checks: "list[Check]", device: jax.Device) -> str:
    """What people read of checks that are wrong."""
    found = versions()
    lines = [
        f"jax {found['jax']} with jaxlib {found['jaxlib']} computes wrong on {device.device_kind}: "
        f"nothing that it trains can be trusted",
        *(f"  {check}" for check in checks),
        *(f"known: {known}" for known in known_bad(device)),
        f"remedy: {remedy()}",
    ]
    return "\n".join(lines)


_right: set[str] = set()
"""Digests of what was found right in this process."""


def _key(device: Any, dtype: str) -> dict[str, str]:
    """What a result depends on; how many devices a CPU is said to be is not part of it."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return versions() | {
        "machine": f"{platform.machine()}-{processor()}",
        "platform": device.platform,
        "runtime": device.client.platform_version,
        "device": device.device_kind,
        "dtype": dtype,
        "XLA_FLAGS": " ".join(flag for flag in flags if "device_count" not in flag),
    }


def _digest(key: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _read(file: Path) -> Any:
    """What a file says was right; None if it is missing or damaged."""
    try:
        return json.loads(file.read_text())["right"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, key: dict[str, str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps({"right": key}, indent=1).encode())
    except OSError:
        pass
