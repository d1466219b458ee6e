"""Prints what is installed here, and whether it computes right."""

import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgnet_jax.tools.tool import Command, Flag

if TYPE_CHECKING:
    import jax
    from ml_collections import ConfigDict

    from mgnet_jax.models import Convolution
    from mgnet_jax.training.numerics import Check

NAME = "doctor"
HELP = "print what is installed and whether it computes right; with --config, for its network"
FLAGS: tuple[Flag, ...] = ()

MISSING = (("tpu", "float64"),)
"""Types that a platform does not have."""


def run(command: Command) -> None:
    """Prints versions, devices and every check.

    Raises:
      NumericsError: a check is wrong.
    """
    import jax

    from mgnet_jax.models import CHOICES
    from mgnet_jax.training import installation, numerics, whole_step
    from mgnet_jax.training.progress import say, table

    say(table([{"package": name, "version": v} for name, v in installation.versions().items()]))
    first, *others = jax.local_devices()
    say(f"\n{chr(10).join(machine(command.workdir))}\n")
    for known in installation.known_bad(first):
        say(f"known to be wrong: {known}\n")

    bad: list[Check] = []

    def show(title: str, checks: Iterable["Check"]) -> None:
        rows = []
        for check in checks:
            rows.append(row(check))
            bad.extend([] if check.ok else [check])
        say(f"{title}\n\n{table(rows)}\n")

    configs = [command.config] if command.config_named else [*shipped_configs()]
    cases, algorithm = convolutions(configs), command.config.model.convolution
    dtypes = [name for name in CHOICES["dtype"] if (first.platform, name) not in MISSING]
    with jax.default_device(first):
        show("training steps", whole_step.train_steps(dtypes, first))
        for dtype in dtypes:
            show(f"operations in {dtype}", numerics.quick(dtype, first))
            check = partial(numerics.convolutions, dtype=dtype, algorithm=algorithm)
            show(f"convolutions of the networks in {dtype}", chain(*map(check, cases)))
    for device in others:
        show(f"operations in float32 on {device}", numerics.quick("float32", device))
    if bad:
        raise installation.NumericsError(installation.wrong(bad, first))
    say("all of it is right")


def row(check: "Check") -> dict[str, object]:
    """A check as a row of a table."""
    return {
        "check": check.name,
        "type": check.dtype,
        "error": f"{check.error:.1e}",
        "bound": f"{check.bound:.1e}",
        "": "ok" if check.ok else "WRONG",
    }


def machine(workdir: Path) -> Iterator[str]:
    """The devices, the processor and the disks, a line each."""
    import jax

    from mgnet_jax.data.photographs.workers import processors

    for device in jax.local_devices():
        yield f"device      {device}: {device.platform}, {device.device_kind}, {memory(device)}"
    yield f"processor   {processors()} cores for this process, of {os.cpu_count()}"
    yield f"XLA_FLAGS   {os.environ.get('XLA_FLAGS') or '-'}"
    settings: Any = jax.config
    folders = {"jit cache": settings.jax_compilation_cache_dir, "runs": workdir.parent}
    for name, folder in folders.items():
        yield f"{name:<12}{free(Path(folder)) if folder else 'none'}"


def memory(device: "jax.Device") -> str:
    """What a device says of its memory; of a CPU, its share of the machine's."""
    from mgnet_jax.training.memory import device_memory

    size = device_memory(device)
    return "memory unknown" if size is None else f"{size / 2**30:,.1f} GiB of memory"


def free(folder: Path) -> str:
    """A folder and the room on its disk, also if the folder is yet to be made."""
    whole = folder.absolute()
    there = next(place for place in (whole, *whole.parents) if place.exists())
    return f"{shutil.disk_usage(there).free / 2**30:,.1f} GiB free in {folder}"


def shipped_configs() -> "Iterator[ConfigDict]":
    """The configurations that come with the package, without presets."""
    from mgnet_jax.config import shipped

    return (shipped.load(name) for name in shipped.files())


def convolutions(configs: "Iterable[ConfigDict]") -> "list[Convolution]":
    """The shapes of the convolutions of the networks of configurations, each once.

    Raises:
      ConfigError: a configuration cannot be run.
      DataError: there is no such data set.
    """
    from mgnet_jax.config import make_model, validate
    from mgnet_jax.models import convolutions

    found: dict[Convolution, None] = {}
    for config in configs:
        info = validate(config)
        found |= dict.fromkeys(convolutions(make_model(config, info), info.image_shape))
    return [*found]
