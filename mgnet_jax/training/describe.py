"""What a network is and costs, for people, before anything is trained."""

import jax

from mgnet_jax.data.sources import Info
from mgnet_jax.models import Costs, Network, native
from mgnet_jax.training.progress import table

LONG = 2e13
"""FLOPs of a training that takes some minutes on a CPU."""


def model_summary(model: Network, info: Info, costs: Costs) -> str:
    """A table of the network's parts: output, parameters and multiply-adds for one image."""
    unused = sum(part.unused for part in costs.parts)
    rows: list[dict[str, object]] = [
        {
            "part": part.name,
            "": part.detail,
            "output": "x".join(map(str, part.output)),
            "parameters": f"{part.parameters:,}",
            **({"unused": f"{part.unused:,}" if part.unused else ""} if unused else {}),
            "MMAC": f"{part.macs / 1e6:,.2f}",
        }
        for part in costs.parts
    ]
    height, width, channels = info.image_shape
    form = f"{model.computed_form} form, " if "direct" in model.forms else ""
    lines = [
        f"{model.spec} on {info.name}: {info.num_classes} classes, {height}x{width}x{channels} "
        f"images, {model.stem} stem, {form}{model.dtype}",
        "",
        table(rows),
        "",
        f"parameters  {costs.parameters:,}"
        + (f", of which {unused:,} are unused: they have no effect" if unused else ""),
        f"work        {costs.macs / 1e9:.4g} GMAC = {2 * costs.macs:,} FLOPs an image forward,",
        "            convolutions and the linear layer; about three times that to train",
    ]
    if model.spec.note:
        lines.append(f"note        {model.spec.note}")
    return "\n".join(lines)


def faster_here(model: Network, info: Info, costs: Costs, epochs: int) -> str:
    """What would make this training faster on this machine; empty if nothing is known."""
    flops = 6 * costs.macs * info.train_size * epochs
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    plain = (model.convolution, model.dtype) == ("auto", "float32")
    if not (one_cpu and plain and flops >= LONG and native.possible()):
        return ""
    return (
        "faster      --config.model.convolution=native may take half the time on this CPU,\n"
        "            by code that its C++ compiler makes, where channels are multiples of 16\n"
    )
