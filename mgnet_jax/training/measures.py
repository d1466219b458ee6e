"""What is measured of a batch besides its loss, by name; `register` one and a run can log it.

A measure of each image is averaged over images, in training and in scoring; a measure of each step
is averaged over steps, in training alone; a step with fewer images counts for less, as they do.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mgnet_jax.config import ConfigError
from mgnet_jax.training.metrics import COLUMNS


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
    """Adds a measure, or replaces one's own; a config file may do so before get_config returns.

    Raises:
      ConfigError: the name is no identifier or that of something else, or `of` is neither "image"
        nor "step".
    """
    name, taken = measure.name, {*RESERVED, *BUILT_IN}
    if not name.isidentifier() or name in taken or name.startswith(("test_", "validation_")):
        raise ConfigError(
            f"a measure cannot be called {name!r}: its name must be an identifier that does not "
            f"begin with test_ or validation_ and is none of {', '.join(sorted(taken))}"
        )
    if measure.of not in OF:
        raise ConfigError(f"the measure {name} is of {measure.of!r}: it must be of one of {OF}")
    MEASURES[name] = measure


def chosen(names: str) -> tuple[Measure, ...]:
    """The measures of a list of names with commas between them.

    Raises:
      ConfigError: there is no such measure, or one of images does not give a number for each.
    """
    found = []
    for name in filter(None, names.replace(" ", "").split(",")):
        if name not in MEASURES:
            raise ConfigError(
                f"config.log.measures={names!r}: there is no {name!r}; there are "
                f"{', '.join(MEASURES)}, with commas between. One of your own is registered by "
                f"its config file: give it with --config"
            )
        found.append(MEASURES[name])
        if found[-1].of == "image":
            logits, labels = jnp.zeros((3, 7)), jnp.zeros(3, jnp.int32)
            _check_shape(found[-1], (3,), logits, labels)
    return tuple(dict.fromkeys(found))


def _check_shape(measure: Measure, expected: tuple[int, ...], *arguments: Any) -> None:
    """Raises ConfigError if a measure fails or has another shape, before anything is trained."""
    try:
        shape = jax.eval_shape(measure.compute, *arguments).shape
    except Exception as error:
        text = f"fails with {type(error).__name__}: {str(error).splitlines()[0]}"
        raise ConfigError(f"the measure {measure.name} {text}") from error
    if shape != expected:
        what = "a number for each image" if measure.of == "image" else "one number for the step"
        raise ConfigError(
            f"the measure {measure.name} gives the shape {shape}: it must give {what}, {expected}"
        )


@flax.struct.dataclass
class Metrics:
    """Sums over images, of whatever is measured, and the number of images.

    Attributes:
      skipped: steps left out, and the most in a row, int32; None where none is left out.
    """

    sums: dict[str, jax.Array]
    count: jax.Array
    skipped: tuple[jax.Array, jax.Array] | None = None

    @classmethod
    def zero(cls, measures: tuple[Measure, ...] = (), skips: bool = False) -> "Metrics":
        """No images yet."""
        sums = {"loss": jnp.zeros(()), "accuracy": jnp.zeros((), jnp.int32)}
        none = jnp.zeros((), jnp.int32)
        sums |= {m.name: jnp.zeros(()) for m in measures}
        return cls(sums, none, (none, none) if skips else None)

    def __add__(self, other: "Metrics") -> "Metrics":
        sums, count = jax.tree.map(jnp.add, (self.sums, self.count), (other.sums, other.count))
        if self.skipped is None or other.skipped is None:
            return Metrics(sums, count, self.skipped)
        (ours, most), (theirs, row) = self.skipped, other.skipped
        return Metrics(sums, count, (ours + theirs, jnp.maximum(most, row)))

    def summary(self) -> dict[str, float]:
        """The mean of everything, accuracy from 0 to 1; waits for the device.

        The number of steps left out, `skipped`, is among it where any can be.
        """
        count = max(int(self.count), 1)
        means = {name: value.item() / count for name, value in self.sums.items()}
        if self.skipped is None:
            return means
        left_out = {"skipped": self.skipped[0].item()}
        return (means if int(self.count) else dict.fromkeys(means, math.nan)) | left_out

    def left_out(self, finite: jax.Array, in_a_row: jax.Array) -> "Metrics":
        """Those of one step, which do not count unless it was finite."""
        sums, count = jax.tree.map(lambda x: jnp.where(finite, x, 0), (self.sums, self.count))
        return Metrics(sums, count, (1 - finite.astype(jnp.int32), in_a_row))

    def restored(self, saved: Mapping[str, float]) -> "Metrics":
        """What `kept` gave, if it is of the same measures; else self, no images."""
        if saved.keys() != {*self.sums, *self._numbers}:
            return self
        sums = {name: jnp.asarray(saved[name], x.dtype) for name, x in self.sums.items()}
        count, *skipped = (jnp.asarray(saved[name], jnp.int32) for name in self._numbers)
        return Metrics(sums, count, (skipped[0], skipped[1]) if skipped else None)

    def kept(self) -> dict[str, float]:
        """The sums and the count as numbers that JSON holds exactly."""
        numbers = zip(self._numbers, (self.count, *(self.skipped or ())), strict=True)
        return {name: x.item() for name, x in (*self.sums.items(), *numbers)}

    @property
    def _numbers(self) -> tuple[str, ...]:
        """The names of what is counted."""
        return ("count",) if self.skipped is None else ("count", "skipped", "in_a_row")

    def of_steps(self, measures: tuple[Measure, ...], params: Any, gradients: Any) -> "Metrics":
        """The metrics of a step's images, with what is measured of the step."""
        new = {}
        for one in measures:
            if one.of == "step":
                _check_shape(one, (), params, gradients)
                value = one.compute(params, gradients).astype(jnp.float32)
                new[one.name] = value * self.count
        return Metrics(self.sums | new, self.count, self.skipped)


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
RESERVED = (
    *COLUMNS,
    "waiting",
    "count",
    "skipped",
    "in_a_row",
)  # of the records, and the sums' own
BUILT_IN: list[str] = []
for _measure in (
    Measure("top5", "image", _top5, "share of images with fewer than 5 classes above their own"),
    Measure("grad_norm", "step", lambda _, g: _norm(g), "2-norm of the gradient"),
    Measure("param_norm", "step", lambda p, _: _norm(p), "2-norm of the parameters"),
):
    register(_measure)
BUILT_IN.extend(MEASURES)
