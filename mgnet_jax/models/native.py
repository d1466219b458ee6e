"""Convolutions and sums of float32 images on CPUs by code compiled where it runs (native.cc).

The machine's C++ compiler compiles it when it is asked for first, in some seconds; what it makes is
kept in a folder of the user, by the compiler, the processor and the code. XLA calls it as it calls
its own kernels, with its own threads.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models import kept
from mgnet_jax.models.geometry import Geometry
from mgnet_jax.models.notation import ModelError

LANES = 16
"""Channels come in so many at a time."""
MOST = 4096
"""Channels of an array at most."""
TILE, POINTS = 4, 36
"""Outputs of a tile a side, and its points, see `winograd`."""
_BLOCK = {"convolve": (12, 4096), "kernel_gradient": (8, 8192)}
"""Tiles at a time: a multiple of the one, at most the other if each has one channel."""

_SOURCE = Path(__file__).with_name("native.cc")
_ASKED = "convolution='native' is compiled by this machine's C++ compiler, of C++17 or later"


def takes(geometry: Geometry) -> bool:
    """Whether it is there for a convolution of float32 and is faster than what else there is.

    It has 3x3 with stride and padding 1. Of few tiles the kernel's points are most of the work.
    """
    size, _, *channels = geometry.kernel
    if (size, geometry.stride, geometry.padding) != (3, 1, 1):
        return False
    return all(map(fits, channels)) and 8 * _tiles(geometry.x) >= max(channels)


def fits(channels: int) -> bool:
    """Whether an array may have so many."""
    return channels % LANES == 0 and channels <= MOST


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x (N, H, W, c_in) with a kernel (3, 3, c_in, c_out), stride and padding 1."""
    return _call("convolve", (*x.shape[:3], kernel.shape[3]), x, kernel)


def gradient_of_kernel(x: jax.Array, g: jax.Array) -> jax.Array:
    """From x (N, H, W, c_in) and the gradient g (N, H, W, c_out) of the output, the kernel's."""
    return _call("kernel_gradient", (3, 3, x.shape[3], g.shape[3]), x, g)


def squares(x: jax.Array, first: jax.Array) -> list[jax.Array]:
    """`norm_sums.squares`."""
    return _sums("squares", x, x, first)


def sums(g: jax.Array, x: jax.Array, *of_channels: jax.Array, relu: bool) -> list[jax.Array]:
    """The transpose of `norm_sums.affine`, from the gradient g of its result."""
    return _sums("norm_sums", x, g, x, *of_channels, relu=relu)


def _sums(name: str, x: jax.Array, *arguments: jax.Array, **options: bool) -> list[jax.Array]:
    out = [jax.ShapeDtypeStruct((x.shape[0], x.shape[3]), jnp.float32)] * 2
    workers = np.int64(min(_cores(), x.shape[0]))
    call = jax.ffi.ffi_call(f"mgnet_{name}_{load()}", out)
    return list(call(*arguments, workers=workers, **options))


def working_elements(x: tuple[int, ...], y: tuple[int, ...], of_kernel: bool) -> int:
    """What `conv`, or `gradient_of_kernel`, takes besides the arrays, for the shapes of x and y."""
    some, workers = _shares("kernel_gradient" if of_kernel else "convolve", x, y[3])
    matrices = workers if of_kernel else 1
    return POINTS * (matrices * x[3] * y[3] + workers * (some * (x[3] + y[3]) + 2 * 16))


def _tiles(x: tuple[int, ...]) -> int:
    return x[0] * -(-x[1] // TILE) * -(-x[2] // TILE)


def _shares(name: str, x: tuple[int, ...], c_out: int) -> tuple[int, int]:
    """How many tiles a worker takes at a time, so few that they stay in its cache; and workers."""
    (multiple, most), tiles, cores = _BLOCK[name], _tiles(x), _cores()
    some = max(1, most // max(x[3], c_out) // multiple) * multiple
    some = min(some, -(-tiles // cores))
    return some, min(cores, -(-tiles // some))


def _cores() -> int:
    """As many as XLA has threads."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _call(name: str, shape: tuple[int, ...], x: jax.Array, other: jax.Array) -> jax.Array:
    y = shape if name == "convolve" else other.shape
    some, workers = map(np.int64, _shares(name, x.shape, y[3]))
    scratch = (working_elements(x.shape, y, name != "convolve"),)
    out = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, scratch)]
    call = jax.ffi.ffi_call(f"mgnet_{name}_{load()}", out)
    return call(x, other, some=some, workers=workers)[0]


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
    for name in (*_BLOCK, "squares", "norm_sums"):
        handler = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(f"mgnet_{name}_{built.stem}", handler, platform="cpu")
    return built.stem


def build() -> Path:
    """The compiled code, compiled unless it was before; named after all that it depends on.

    Raises:
      ModelError: as in `load`.
    """
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if not shutil.which(compiler[0]):
        raise ModelError(
            f"{_ASKED}, and there is no {compiler[0]!r}: install g++ or clang, or name one in the "
            f"variable CXX; or leave convolution='auto'"
        )
    for flags in (["-march=native"], ["-mcpu=native"], []):
        if macros := _macros(compiler, *flags):
            break
    told = "\n".join((macros, _SOURCE.read_text(), jax.__version__))
    built = folder() / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not built.exists():
        try:
            _compile(compiler, flags, built)
        except OSError as error:
            raise ModelError(
                f"{_ASKED}, and what it makes cannot be kept: {error}; name a folder that can be "
                f"written in the variable MGNET_NATIVE"
            ) from None
    return built


def folder() -> Path:
    """Where compiled code is kept; the variable MGNET_NATIVE names another place."""
    return kept.folder("native", "MGNET_NATIVE")


def _macros(compiler: list[str], *flags: str) -> str:
    """What the compiler defines for this processor; empty if it does not know a flag."""
    command = [*compiler, *flags, "-dM", "-E", "-x", "c++", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _compile(compiler: list[str], flags: list[str], built: Path) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        made = Path(scratch) / built.name
        options = ["-std=c++17", "-O3", "-fPIC", "-shared", "-w", f"-I{jax.ffi.include_dir()}"]
        command = [*compiler, *options, *flags, str(_SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelError(
                f"{_ASKED}, which failed ({shlex.join(command)}); leave convolution='auto', or "
                f"name another one in the variable CXX:\n{done.stderr[-2000:]}"
            )
        os.replace(made, built)
