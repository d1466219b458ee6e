"""What a network is and costs, for people, before anything is trained."""

from collections.abc import Mapping
from typing import Any

from mgnet_jax.data.sources import Info
from mgnet_jax.models import Network
from mgnet_jax.training.progress import table

BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}


def model_summary(model: Network, info: Info) -> str:
    """A table of the network's parts: output, parameters and multiply-adds for one image."""
    parts = model.count_parts(info.image_shape)
    rows: list[dict[str, object]] = [
        {
            "part": part.name,
            "": part.detail,
            "output": "x".join(map(str, part.output)),
            "parameters": f"{part.parameters:,}",
            "MMAC": f"{part.macs / 1e6:,.2f}",
        }
        for part in parts
    ]
    parameters, macs = sum(p.parameters for p in parts), sum(p.macs for p in parts)
    height, width, channels = info.image_shape
    return (
        f"{model.spec} on {info.name}: {info.num_classes} classes, {height}x{width}x{channels} "
        f"images, {model.stem} stem, {model.form} form, {model.dtype}\n\n"
        f"{table(rows)}\n\n"
        f"parameters  {parameters:,}\n"
        f"work        {macs / 1e9:.4g} GMAC = {2 * macs:,} FLOPs an image forward "
        f"(convolutions and the linear layer; about three times that to train)"
    )


def memory_summary(model: Network, info: Info, train: Mapping[str, Any]) -> str:
    """Estimated memory of training on one device that holds the whole batch.

    Args:
      model: the network.
      info: the data set, which lies on the device whole.
      train: the `train` section of a configuration.
    """
    parts = model.count_parts(info.image_shape)
    width = BYTES[model.dtype]
    parameter_width = 8 if model.dtype == "float64" else 4
    copies = 3 + bool(train["ema_decay"])  # weights, gradients, momentum and their average
    height, columns, channels = info.image_shape
    weights = parameter_width * copies * sum(p.parameters for p in parts)
    batch = train["batch_size"] // train["accumulate"]
    kept = width * sum(p.kept for p in parts) * batch
    images = height * columns * channels * (info.train_size + info.test_size)
    return (
        f"memory      {mebibytes(weights)} weights, gradients and momentum, about "
        f"{mebibytes(kept)} activations for a batch of {batch}, {mebibytes(images)} data set"
    )


def mebibytes(size: int) -> str:
    """A number of bytes as MiB."""
    return f"{size / 2**20:,.1f} MiB"
