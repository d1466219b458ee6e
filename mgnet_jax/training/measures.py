"""What is measured of a batch besides its loss, by name; `register` one and a run can log it.

A measure of each image is averaged over images, in training and in scoring; a measure of each step
is averaged over steps, in training alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mgnet_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number to log.

    Attributes:
      name: its column in metrics.csv.
      of: "image": `compute(logits (n, classes), labels (n,))` gives (n,) numbers or truths; "step":
        `compute(params, gradients)`, the trees before the step, gives a scalar.
      compute: a pure function that JAX can trace.
      meaning: for people.
    """

    name: str
    of: str
    compute: Callable[[Any, Any], jax.Array]
    meaning: str


MEASURES: dict[str, Measure] = {}
"""The measures by name."""


def register(measure: Measure) -> None:
    """Adds a measure; a config file may do so for its own, before its get_config returns.

    Raises:
      ValueError: the name is no identifier or taken, or `of` is neither "image" nor "step".
    """
    if not measure.name.isidentifier() or measure.name in RESERVED or measure.of not in OF:
        raise ValueError(f"{measure}: its name must be an identifier of its own, of one of {OF}")
    MEASURES[measure.name] = measure


def chosen(names: str) -> tuple[Measure, ...]:
    """The measures of a list of names with commas between them.

    Raises:
      ConfigError: there is no such measure.
    """
    found = []
    for name in filter(None, names.replace(" ", "").split(",")):
        if name not in MEASURES:
            raise ConfigError(
                f"config.log.measures={names!r}: there is no {name!r}; there are "
                f"{', '.join(MEASURES)}, with commas between"
            )
        found.append(MEASURES[name])
    return tuple(dict.fromkeys(found))


@flax.struct.dataclass
class Metrics:
    """Sums over images, of whatever is measured, and the number of images."""

    sums: dict[str, jax.Array]
    count: jax.Array

    @classmethod
    def zero(cls, measures: tuple[Measure, ...] = ()) -> "Metrics":
        """No images yet."""
        sums = {"loss": jnp.zeros(()), "accuracy": jnp.zeros((), jnp.int32)}
        return cls(sums | {m.name: jnp.zeros(()) for m in measures}, jnp.zeros((), jnp.int32))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def summary(self) -> dict[str, float]:
        """The mean of everything, accuracy from 0 to 1; waits for the device."""
        count = max(int(self.count), 1)
        return {name: value.item() / count for name, value in self.sums.items()}

    def restored(self, saved: Mapping[str, float]) -> "Metrics":
        """What `kept` gave, if it is of the same measures; else self, no images."""
        if saved.keys() != {*self.sums, "count"}:
            return self
        sums = {name: jnp.asarray(saved[name], x.dtype) for name, x in self.sums.items()}
        return Metrics(sums, jnp.asarray(saved["count"], jnp.int32))

    def kept(self) -> dict[str, float]:
        """The sums and the count as numbers that JSON holds exactly."""
        return {name: x.item() for name, x in self.sums.items()} | {"count": self.count.item()}

    def of_steps(self, measures: tuple[Measure, ...], params: Any, gradients: Any) -> "Metrics":
        """The metrics of a step's images, with what is measured of the step."""
        new = {
            m.name: m.compute(params, gradients).astype(jnp.float32) * self.count
            for m in measures
            if m.of == "step"
        }
        return Metrics(self.sums | new, self.count)


def measure(
    measures: tuple[Measure, ...],
    losses: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
) -> Metrics:
    """Metrics of one batch; images whose mask is False do not count, measures of steps are 0."""

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask, values, 0), dtype=jnp.float32)

    right = (jnp.argmax(logits, -1) == labels) & mask
    sums = {"loss": total(losses), "accuracy": jnp.sum(right, dtype=jnp.int32)}
    for one in measures:
        of_image = one.of == "image"
        sums[one.name] = total(one.compute(logits, labels)) if of_image else jnp.zeros(())
    return Metrics(sums, jnp.sum(mask, dtype=jnp.int32))


def _top5(logits: jax.Array, labels: jax.Array) -> jax.Array:
    own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=-1)
    return jnp.sum(logits > own, axis=-1) < 5


def _norm(tree: Any) -> jax.Array:
    import optax  # here, since what only prints a configuration does without

    return optax.tree.norm(tree)


OF = ("image", "step")
RESERVED = ("loss", "accuracy")
for _measure in (
    Measure("top5", "image", _top5, "share of images with fewer than 5 classes above their own"),
    Measure("grad_norm", "step", lambda _, g: _norm(g), "2-norm of the gradient"),
    Measure("param_norm", "step", lambda p, _: _norm(p), "2-norm of the parameters"),
):
    register(_measure)
