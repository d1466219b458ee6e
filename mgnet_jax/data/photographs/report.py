"""What became of a prepared set, and how to train with it, as text for people."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgnet_jax.data.photographs.making import MENDED, UNREADABLE
from mgnet_jax.data.photographs.shards import Plan, Written

_SHOWN = 20


def description(plan: Plan, all_: Mapping[str, Written]) -> str:
    """Says what is in a set that is whole."""
    images = Counter[str]()
    for shard in plan.shards():
        images[shard.split] += all_[shard.file].images
    size = sum(shard.size for shard in all_.values())
    counts = ", ".join(f"{split} {count:,} images" for split, count in images.items())
    text = f"{len(plan.class_names):,} classes; {counts}; {size:,} bytes in {len(all_):,} shards"
    kinds = Counter(what for shard in all_.values() for _, what in shard.mended)
    if kinds:
        several = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        text += f"\nmended {kinds.total():,}, see {MENDED}: {several}"
    if left := sum(len(shard.unreadable) for shard in all_.values()):
        text += f"\nleft out {left:,} that cannot be read, see {UNREADABLE}"
    return text


def some(heading: str, lines: Sequence[str]) -> str:
    """A heading and the first lines."""
    more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return "\n  ".join([heading, *lines[:_SHOWN], *more])


def hint(home: Path) -> str:
    """Says the command that trains with a set, given its folder, OUT/NAME."""
    recipe = "--config=configs/imagenet.py"
    if home.name != "imagenet2012":
        recipe = "--config=imagenet:photographs --config.data.source=tfds"
    folder = shlex.quote(str(home))
    return f"train with it: python -m mgnet_jax.main {recipe} --config.data.dir={folder}"
