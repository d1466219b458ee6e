"""Prints what training would take on devices that are not there: memory, traffic and hours."""

from typing import TYPE_CHECKING

from mgnet_jax.tools.tool import Command, Flag, begin

if TYPE_CHECKING:
    from mgnet_jax.training.accelerators import Accelerator
    from mgnet_jax.training.plan import Plan

NAME = "plan"
HELP = "print the memory, the traffic and the hours of training on devices that need not be there"
FLAGS: tuple[Flag, ...] = (
    Flag("devices", 8, "number of devices; 0: a table of 1, 2, 4, ..., 256"),
    Flag("kind", "h100", "of device, as h100 or tpu-v5e; an unknown one lists all"),
    Flag("utilisation", 0.3, "share of the peak that is reached: an assumption, > 0 and <= 1"),
    Flag(
        "images_per_core",
        621.2,
        "photographs read per second and core; the default: `stream, fast` of "
        "benchmarks/results/2026-11-25-cpu-input.txt",
    ),
)

ASSUMED = (
    "seconds and hours rest on the utilisation, which is assumed and has to hold what is not "
    "counted\n(batch norm, reading memory; narrow networks reach less): none of it was measured"
)


def run(command: Command) -> None:
    """Prints the plan, or one row for each number of devices.

    Raises:
      ConfigError: a flag is out of range, or the configuration cannot be run so.
    """
    from mgnet_jax.config import ConfigError, validate
    from mgnet_jax.training import accelerators
    from mgnet_jax.training.plan import make_plan
    from mgnet_jax.training.progress import say, table

    flags, config = command.flags, command.config
    devices, utilisation, pace = (
        flags[name] for name in ("devices", "utilisation", "images_per_core")
    )
    kind = accelerators.find(flags["kind"])
    if devices < 0:
        raise ConfigError(f"--devices={devices} must be a number >= 1, or 0 for a table")
    if not 0 < utilisation <= 1:
        raise ConfigError(f"--utilisation={utilisation} must be > 0 and <= 1")
    if not 0 < pace < float("inf"):
        raise ConfigError(f"--images_per_core={pace} must be a number > 0")
    info, model, costs = begin(config, devices or 1)
    if devices:
        plan = make_plan(config, model, info, costs, kind, devices, utilisation, pace)
        say(f"{table(lines(plan, utilisation))}\n\n{notes(plan)}")
        return
    rows: list[dict[str, object]] = []
    for count in (2**i for i in range(9)):
        try:
            validate(config, count, info)
        except ConfigError:  # it is valid for one device
            rows.append({"devices": count, "fits": "the batch cannot be split so"})
            continue
        plan = make_plan(config, model, info, costs, kind, count, utilisation, pace)
        rows.append(row(plan))
    say(f"{kind.name} at {utilisation:g} of {plan.speed / utilisation / 1e12:,.4g} TFLOP/s\n")
    say(f"{table(rows)}\n\n{ASSUMED}\n{joined(kind)}")


def row(plan: "Plan") -> dict[str, object]:
    """A plan as one row of a table."""
    cores = {} if plan.cores is None else {"cores to read": plan.cores}
    return {
        "devices": plan.devices,
        "batch each": plan.batch,
        "GiB": plan.memory.total / 2**30,
        "fits": "yes" if plan.fits else "no",
        "MiB exchanged": (plan.traffic.reduced + plan.traffic.gathered) / 2**20,
        "s computing": plan.compute_s,
        "s exchanging": plan.communication_s,
        "hours": plan.hours,
        "images/s": plan.images_per_second,
        **cores,
    }


def lines(plan: "Plan", utilisation: float) -> list[dict[str, object]]:
    """A plan as rows: what, how much, and what that is from."""
    from mgnet_jax.training.progress import mebibytes

    memory, traffic, kind = plan.memory, plan.traffic, plan.kind
    step, parts = memory.step, f", in {plan.parts} parts" if plan.parts > 1 else ""
    reducing = "all-reduced" + (", for each part" if plan.parts > 1 else "")
    cells: list[tuple[str, str, str]] = [
        ("batch on a device", f"{plan.batch:,}", f"{plan.batches.batch_size:,} images{parts}"),
        ("memory: state", mebibytes(memory.state), "weights, momentum, averages; their shapes"),
        ("  gradients", mebibytes(memory.gradients), "a whole set, waiting to be reduced"),
        ("  gathered weights", mebibytes(memory.gathered), "those that lie in parts, whole"),
        (
            "  activations",
            mebibytes(step.activations),
            "the traced step, as the compiler at hand keeps it",
        ),
        ("  working memory", mebibytes(step.working), "the same; bfloat16 takes more on CPUs"),
        ("  images", mebibytes(step.data), "read ahead" if plan.cores else "the data set whole"),
        (
            "  in all",
            mebibytes(memory.total),
            f"of {mebibytes(int(plan.limit))}: {kind.usable:.0%} of a {kind.name}, JAX's default",
        ),
        ("steps an epoch", f"{plan.batches.steps:,}", f"{plan.batches.size:,} images"),
        ("steps in all", f"{plan.steps:,}", f"{plan.epochs:,} epochs"),
        ("a step: gradients", mebibytes(traffic.gradients), reducing),
        ("  in parts", mebibytes(traffic.scattered), "reduce-scattered, or all-reduced by XLA"),
        ("  shared kernels", mebibytes(traffic.again), "at most: one for each time they are read"),
        ("  batch norm", mebibytes(traffic.moments), "means and variances"),
        ("  metrics", f"{traffic.metrics:,} bytes", "sums over images"),
        ("  weights", mebibytes(traffic.gathered), "all-gathered, once a step"),
        ("  sent", mebibytes(round(traffic.sent)), "by each device, around a ring"),
        (
            "  s computing",
            f"{plan.compute_s:.4g}",
            f"{plan.image_flops / 1e9:,.4g} GFLOPs an image at {utilisation:g} of "
            f"{plan.speed / utilisation / 1e12:,.4g} TFLOP/s, the published peak",
        ),
        (
            "  s exchanging",
            f"{plan.communication_s:.4g}",
            f"at {kind.link / 1e9:,.4g} GB/s, published; without latency and overlap",
        ),
        ("hours in all", f"{plan.hours:,.4g}", "the steps alone: no scoring, no waiting"),
        ("images/s", f"{plan.images_per_second:,.0f}", "all devices together"),
    ]
    if plan.cores is not None:
        source = f"at {plan.images_per_core:,.4g} photographs/s and core (--images_per_core)"
        cells.append(("cores to read them", f"{plan.cores:,.1f}", source))
    return [{"": name, "value": value, "from": source} for name, value, source in cells]


def joined(kind: "Accelerator") -> str:
    """How many devices the links join."""
    return (
        f"the links join {kind.joined:,} devices; between more of them the network is slower than "
        f"that, and exchanging takes longer"
    )


def notes(plan: "Plan") -> str:
    """What to change, and what the figures leave out."""
    said = [ASSUMED]
    if plan.devices > plan.kind.joined:
        said.append(joined(plan.kind))
    if plan.fits:
        return "\n".join(said)
    sharded = " set config.train.sharding='sharded'," if plan.devices > 1 else ""
    return "\n".join(
        [
            f"it does not fit: {plan.memory.total / 2**30:.1f} GiB are more than "
            f"{plan.limit / 2**30:.1f}; raise config.train.accumulate,{sharded} set "
            f"config.model.remat=steps, take more devices or lower config.train.batch_size",
            *said,
        ]
    )
