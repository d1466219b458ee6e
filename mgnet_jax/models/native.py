"""Code for float32 images on CPUs that is compiled where it runs, in C++ (the folder compiled/).

The machine's C++ compiler compiles it when it is asked for first, in some seconds; what it makes is
kept in a folder of the user, by the compiler, the processor and the code. XLA calls it as it calls
its own kernels, with its own threads. native_conv.py and norm_sums.py say what there is.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models import kept
from mgnet_jax.models.notation import ModelError

LANES = 16
"""Channels come in so many at a time."""
MOST = 4096
"""Channels of an array that it makes, at most."""
_FUNCTIONS = (
    *("winograd_y", "winograd_k", "direct_y", "direct_x", "direct_k"),
    *("norm_squares", "norm_sums"),
)
_SOURCES = Path(__file__).with_name("compiled")
_ASKED = "convolution='native' is compiled by this machine's C++ compiler, of C++17 or later"


def compiler() -> list[str]:
    """The machine's C++ compiler, as words of a command; the variable CXX names another one."""
    return shlex.split(os.environ.get("CXX", "c++"))


def possible() -> bool:
    """Whether there is one."""
    return shutil.which(compiler()[0]) is not None


def fits(channels: int) -> bool:
    """Whether an array that it makes may have so many."""
    return channels % LANES == 0 and channels <= MOST


def cores() -> int:
    """As many as XLA has threads."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def call(
    name: str, shapes: Sequence[tuple[int, ...]], *arrays: jax.Array, **numbers: int
) -> list[jax.Array]:
    """Calls a function of compiled/all.cc, compiling it if need be; gives what it makes."""
    out = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    function = jax.ffi.ffi_call(f"mgnet_{name}_{load()}", out)
    return list(function(*arrays, **{key: np.int64(value) for key, value in numbers.items()}))


@cache
def load() -> str:
    """Compiles the code if need be, and has XLA know it; the version that names it there.

    Raises:
      ModelError: there is no compiler, or it fails, or what it made cannot be kept or loaded.
    """
    built = build()
    try:
        library = ctypes.CDLL(str(built))
    except OSError as error:
        raise ModelError(
            f"{_ASKED}; what it made cannot be loaded: {error}; remove it, or name another folder "
            f"in the variable MGNET_NATIVE"
        ) from None
    for name in _FUNCTIONS:
        handler = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(f"mgnet_{name}_{built.stem}", handler, platform="cpu")
    return built.stem


def build() -> Path:
    """The compiled code, compiled unless it was before; named after all that it depends on.

    Raises:
      ModelError: as in `load`.
    """
    if not possible():
        raise ModelError(
            f"{_ASKED}, and there is no {compiler()[0]!r}: install g++ or clang, or name one in "
            f"the variable CXX; or leave convolution='auto'"
        )
    for flags in (["-march=native"], ["-mcpu=native"], []):
        if macros := _macros(*flags):
            break
    sources = [path.read_text() for path in sorted(_SOURCES.iterdir()) if path.is_file()]
    told = "\n".join((macros, *sources, jax.__version__))
    built = folder() / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not built.exists():
        try:
            _compile(flags, built)
        except OSError as error:
            raise ModelError(
                f"{_ASKED}, and what it makes cannot be kept: {error}; name a folder that can be "
                f"written in the variable MGNET_NATIVE"
            ) from None
    return built


def folder() -> Path:
    """Where compiled code is kept; the variable MGNET_NATIVE names another place."""
    return kept.folder("native", "MGNET_NATIVE")


def _macros(*flags: str) -> str:
    """What the compiler defines for this processor; empty if it does not know a flag."""
    command = [*compiler(), *flags, "-dM", "-E", "-x", "c++", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _compile(flags: list[str], built: Path) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        made = Path(scratch) / built.name
        options = ["-std=c++17", "-O3", "-fPIC", "-shared", "-w", f"-I{jax.ffi.include_dir()}"]
        command = [*compiler(), *options, *flags, str(_SOURCES / "all.cc"), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelError(
                f"{_ASKED}, which failed ({shlex.join(command)}); leave convolution='auto', or "
                f"name another one in the variable CXX:\n{done.stderr[-2000:]}"
            )
        os.replace(made, built)
