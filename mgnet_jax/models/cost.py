"""What a network costs, read off the network itself: it cannot disagree with what runs.

Parameters are the shapes that `init` would make. Multiply-adds are those of the convolutions and
matrix products in the traced program, of which only those count whose result somebody reads; so a
changed step has a changed count, and a parameter that has no effect is found.
"""

import dataclasses
import math
from collections import Counter
from typing import Any

import jax

from mgnet_jax.models.network import Network
from mgnet_jax.models.program import programs_in, same_rank

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a network.

    Attributes:
      name: as in the parameter tree.
      detail: what it does, for people.
      output: shape of its (first) output for one image, (height, width, channels) or (classes,);
        () for a parameter of the network itself.
      parameters: trainable numbers.
      unused: those of them that have no effect on the logits, and so never a gradient.
      macs: multiply-adds of its convolutions and linear maps, forward, for one image. Batch norm,
        ReLU, pooling and additions are not counted (under 1 % of the work).
    """

    name: str
    detail: str
    output: tuple[int, ...]
    parameters: int
    unused: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a network costs for images of one shape, in parts and in all."""

    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, forward."""
        return sum(part.macs for part in self.parts)


def count(model: Network, image_shape: Shape) -> Costs:
    """Counts a network for one image (height, width, channels), without running it."""
    plain = model.clone(convolution="xla")
    variables, image = abstract(plain, image_shape, 1)

    def traced(variables: Any, image: Any) -> Any:
        return plain.apply(variables, image, capture_intermediates=_is_part)

    closed, (logits, state) = jax.make_jaxpr(traced, return_shape=True)(variables, image)
    program, outputs = closed.jaxpr, state["intermediates"]
    names = tuple(variables["params"])
    seen = (_part(equation, names) for equation in program.eqns)
    order = [*dict.fromkeys([*(name for name in seen if name), *names])]
    wanted = [True] * len(jax.tree.leaves(logits))
    wanted += [False] * (len(program.outvars) - len(wanted))
    macs, used = _walk(program, wanted, "", names)
    used = jax.tree.unflatten(jax.tree.structure((variables, image)), used)[0]["params"]
    parts, details = [], model.details
    for name in order:
        leaves = jax.tree.leaves(variables["params"][name])
        idle = [x for x, u in zip(leaves, jax.tree.leaves(used[name]), strict=True) if not u]
        parts.append(
            Part(
                name=name,
                detail=details.get(name, ""),
                output=_output_shape(outputs.get(name, {})),
                parameters=sum(x.size for x in leaves),
                unused=sum(x.size for x in idle),
                macs=macs[name],
            )
        )
    return Costs(tuple(parts))


def _is_part(module: Any, method: str) -> bool:
    return len(module.path) == 1 and method == "__call__"


def _output_shape(outputs: Any) -> tuple[int, ...]:
    """The shape of a part's first output; () of what is not called, as a parameter of the whole."""
    if "__call__" not in outputs:
        return ()
    return tuple(jax.tree.leaves(outputs["__call__"][0])[0].shape[1:])


def abstract(model: Network, image_shape: Shape, batch: int) -> tuple[Any, Any]:
    """Shapes and types of the variables, and of a batch of images."""
    images = jax.ShapeDtypeStruct((batch, *image_shape), model.compute.param_dtype)
    return jax.eval_shape(model.init, jax.random.key(0), images), images


def _walk(
    jaxpr: Any, wanted: list[bool], part: str, names: tuple[str, ...]
) -> tuple[Counter[str], list[bool]]:
    """Goes through a program backwards: work whose result is wanted, and the inputs it reads."""
    macs: Counter[str] = Counter()
    live = {id(v) for v, w in zip(jaxpr.outvars, wanted, strict=True) if w}
    for equation in reversed(jaxpr.eqns):
        wanted_here = [id(v) in live for v in equation.outvars]
        if not any(wanted_here):
            continue
        here = _part(equation, names) or part
        inner = programs_in(equation)
        if equation.primitive.name == "scan":
            new, reads = _walk_scan(equation, wanted_here, here, names)
        elif len(inner) == 1 and len(inner[0].invars) == len(equation.invars):
            new, reads = _walk(inner[0], wanted_here, here, names)
        else:
            new, reads = Counter({here: _macs(equation)}), [True] * len(equation.invars)
            for body in inner:
                new += _walk(body, [True] * len(body.outvars), here, names)[0]
        macs += new
        live |= {id(v) for v, read in zip(equation.invars, reads, strict=True) if read}
    return macs, [id(v) in live for v in jaxpr.invars]


def _walk_scan(
    equation: Any, wanted: list[bool], part: str, names: tuple[str, ...]
) -> tuple[Counter[str], list[bool]]:
    """A loop, turn by turn from the last one, until two turns are alike."""
    (body,), left = programs_in(equation), equation.params["length"]
    # a loop takes constants, what is carried, and what is scanned, which alone has one axis more
    carries = sum(map(same_rank, equation.outvars, body.outvars))
    consts = sum(map(same_rank, equation.invars, body.invars)) - carries
    macs: Counter[str] = Counter()
    reads = [False] * len(equation.invars)
    previous = None
    while left:
        new, inputs = _walk(body, wanted, part, names)
        turns = left if wanted == previous else 1
        macs += Counter({name: turns * n for name, n in new.items()})
        reads = [a or b for a, b in zip(reads, inputs, strict=True)]
        previous, wanted = wanted, inputs[consts : consts + carries] + wanted[carries:]
        left -= turns
    return macs, reads


def _part(equation: Any, names: tuple[str, ...]) -> str | None:
    """The part of the network that an operation belongs to, from the names of Flax's modules."""
    stack = str(equation.source_info.name_stack).split("/")
    return next((name for name in stack if name in names), None)


def _macs(equation: Any) -> int:
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        c_out = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return int(equation.outvars[0].aval.size * math.prod(kernel) // c_out)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return int(equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted))
    return 0


def kernel_reads(model: Network, image_shape: Shape) -> int:
    """Numbers of the kernels that convolutions and linear maps read, one for each time it is read.

    A kernel shared by several steps is read by each of them, and has as many gradients, whose sum
    is its gradient. For one forward pass of images (height, width, channels), without running it.
    """
    plain = model.clone(convolution="xla")
    variables, image = abstract(plain, image_shape, 1)
    return _reads(jax.make_jaxpr(lambda v, x: plain.apply(v, x))(variables, image).jaxpr)


def _reads(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        shapes = [v.aval.shape for v in equation.invars]
        linear = equation.primitive.name == "dot_general" and [*map(len, shapes)] == [2, 2]
        if linear or equation.primitive.name == "conv_general_dilated":
            total += math.prod(shapes[1])
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += turns * sum(map(_reads, programs_in(equation)))
    return total


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The shape of a convolution: square grid and kernel; groups of channels."""

    grid: int
    size: int
    c_in: int
    c_out: int
    stride: int = 1
    padding: int = 1
    groups: int = 1

    def __str__(self) -> str:
        text = f"convolution {self.size}x{self.size}"
        text += f", stride {self.stride}" if self.stride > 1 else ""
        text += f", {self.groups} groups" if self.groups > 1 else ""
        return f"{text}, {self.c_in} to {self.c_out} channels on {self.grid}x{self.grid}"


def convolutions(model: Network, image_shape: Shape) -> list[Convolution]:
    """The shapes of a network's convolutions, each once, in the order of the program."""
    plain = model.clone(convolution="xla")
    variables, image = abstract(plain, image_shape, 1)
    found = _convolutions(jax.make_jaxpr(lambda v, x: plain.apply(v, x))(variables, image).jaxpr)
    return [*dict.fromkeys(found)]


def _convolutions(jaxpr: Any) -> list[Convolution]:
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            x, kernel = (v.aval.shape for v in equation.invars)
            stride, padding = equation.params["window_strides"][0], equation.params["padding"][0][0]
            groups = equation.params["feature_group_count"]
            found.append(Convolution(x[1], kernel[0], x[3], kernel[3], stride, padding, groups))
        found += [case for body in programs_in(equation) for case in _convolutions(body)]
    return found
