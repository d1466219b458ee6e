"""Measures how fast a configuration trains on this machine, and writes what it found."""

import json
from typing import TYPE_CHECKING, Any

from mgnet_jax.tools.tool import Begun, Command, Flag, begin

if TYPE_CHECKING:
    from mgnet_jax.training.bench import Bench

NAME = "bench"
HELP = "measure how fast training is here: the input alone, the step alone, both; and compiling"
FLAGS: tuple[Flag, ...] = (
    Flag("seconds", 2.0, "that each repeat of each measurement takes at least"),
    Flag("repeats", 5, "of the input, of the step, and of both"),
)
FILE = "bench.json"


def run(command: Command) -> None:
    """Prints a table and writes `FILE` into the workdir; a run that is there is left as it is.

    Raises:
      ConfigError: a flag is out of range, or the configuration cannot be run.
      DataError: the data set cannot be read.
      WriteError: the workdir cannot be written.
    """
    import jax

    from mgnet_jax.config import ConfigError, check_last_batch
    from mgnet_jax.data.sets import load
    from mgnet_jax.tools.train import check_numerics, make_data
    from mgnet_jax.training import bench
    from mgnet_jax.training.files import write
    from mgnet_jax.training.plan import require_memory
    from mgnet_jax.training.progress import say, table

    seconds, repeats = command.flags["seconds"], command.flags["repeats"]
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--seconds={seconds} must be a number > 0")
    if repeats < 1:
        raise ConfigError(f"--repeats={repeats} must be a number >= 1")
    config = command.config
    check_numerics(config)
    make_data(config)
    begun = begin(config, jax.device_count())
    require_memory(config, begun.info, begun.model, begun.costs)
    data = load(config.data)
    check_last_batch(config, data.info, jax.device_count())
    say(f"Measuring: {repeats} repeats of {seconds:g} s each, after compiling twice ...\n")
    found = bench.measure(config, data, begun.costs, seconds, repeats)
    say(f"{table(rows(found))}\n\n{notes(found)}")
    content = json.dumps(facts(command, begun, found), indent=2) + "\n"
    write(command.workdir / FILE, content)
    say(f"\nwritten to {command.workdir / FILE}")


def rows(found: "Bench") -> list[dict[str, object]]:
    """The three rates as a table."""
    return [
        {
            "": name,
            "images/s": rates.median,
            "least": min(rates.of_repeats),
            "most": max(rates.of_repeats),
        }
        for name, rates in (
            ("input alone", found.input),
            ("step alone", found.step),
            ("both", found.both),
        )
    ]


def notes(found: "Bench") -> str:
    """The other figures, a line each."""
    from mgnet_jax.training.progress import mebibytes

    lines = [
        f"step alone   {found.flops_per_second / 1e12:.4g} TFLOP/s, {found.share_of_peak:.1%} of "
        f"{found.matrix_peak / 1e12:.4g} in matrix products here",
        f"both         {found.waiting:.1%} of the time was spent on waiting for images",
        f"memory       {mebibytes(found.memory)} at the most, says {found.memory_source}",
        f"compiling    {found.compile_cold:.2f} s, {found.compile_warm:.2f} s from the cache",
    ]
    return "\n".join(lines)


def facts(command: Command, begun: Begun, found: "Bench") -> dict[str, Any]:
    """All of it, with what it was measured on, for JSON."""
    import jax

    from mgnet_jax.data.photographs.workers import processors
    from mgnet_jax.training import installation

    config, devices = command.config, jax.device_count()
    return {
        "config": config.name,
        "model": {key: config.model[key] for key in config.model},
        "image_shape": list(begun.info.image_shape),
        "batch_size": config.train.batch_size,
        "versions": installation.versions(),
        "device": {"kind": jax.devices()[0].device_kind, "count": devices, "cores": processors()},
        "seconds": command.flags["seconds"],
        "compile_seconds": {"cold": found.compile_cold, "warm": found.compile_warm},
        "input_images_per_second": found.input.as_dict(),
        "input_images_per_second_and_core": found.input.median / processors(),
        "step_images_per_second": found.step.as_dict(),
        "step_flops_per_second": found.flops_per_second,
        "flops_per_image": found.flops,
        "matrix_flops_per_second": found.matrix_peak,
        "share_of_matrix_peak": found.share_of_peak,
        "both_images_per_second": found.both.as_dict(),
        "waiting": found.waiting,
        "memory_bytes": found.memory,
        "memory_source": found.memory_source,
    }
