"""A traced program as XLA sees it: operations on values, calls and unrolled loops written out."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from mgnet_jax.models.convolution import in_two_parts, working_memory

_CONVOLUTIONS = ("conv_", "dot_general")
_WINDOWS = ("reduce_window", "scatter")
_SUMS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "arg", "norm_s")
_OTHERS = (
    *("gather", "select_and", "sort", "cum", "concatenate"),
    *("scan", "while", "cond", "random", "threefry"),
)


class Value:
    """An array of a program, and what is decided of its memory.

    Attributes:
      shape, dtype: of the array.
      by: the operation that makes it; None if it is given.
      readers: the operations that read it, of those whose results somebody wants.
      buffer: whether it is written to memory.
      shared: if it is, whether all read it there; else only those do that must, and the others
        compute it again.
      wide: whether it is written as float32 although it is bfloat16.
      birth, death: the first and the last place in the order of the operations where it is there.
    """

    def __init__(self, like: Any, by: "Operation | None" = None):
        self.shape, self.dtype, self.by = like.shape, like.dtype, by
        self.readers: list[Operation] = []
        self.buffer = self.shared = self.wide = False
        self.birth = self.death = 0

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        width = 4 if self.wide else getattr(self.dtype, "itemsize", 0)
        return math.prod(self.shape) * width


class Operation:
    """An operation of a program, and when it is done.

    Attributes:
      name: that of JAX's primitive.
      inputs, outputs: what it reads and makes.
      body: of a loop, its program.
      widened: of a loop, what convolutions in it read.
      working: bytes that it takes while it is done, besides what it reads and makes.
      in_two_parts: whether it reads its inputs in a loop and once more after it.
      index: its place in the traced program.
      ready: the index of the last slow operation that it waits for; its own if it is slow itself;
        half as much more if it comes after that and what follows from it.
      place: its place in the order in which the operations are done.
      live: whether somebody wants a result.
    """

    def __init__(self, name: str, inputs: list[Value], outputs: list[Any]):
        self.name, self.inputs = name, inputs
        self.outputs = [Value(like, self) for like in outputs]
        self.body: Program | None = None
        self.widened: set[Value] = set()
        self.working = 0
        self.index = self.place = -1
        self.ready: float = -1
        self.live = False
        self.convolves = name.startswith(_CONVOLUTIONS)
        self.windows = self.convolves or name.startswith(_WINDOWS)
        self.sums = name.startswith(_SUMS)
        self.buffered = self.windows or name.startswith(_OTHERS)
        self.in_two_parts = False
        self.slow = self.convolves or self.sums or name == "scan"

    @property
    def unary(self) -> bool:
        """Whether at most one input is as large as the result, so that to repeat it is cheap."""
        rank = max(len(v.shape) for v in self.outputs)
        spread = [v.by is not None and v.by.name == "broadcast_in_dim" for v in self.inputs]
        pairs = zip(self.inputs, spread, strict=True)
        return sum(len(v.shape) >= rank and not s for v, s in pairs) <= 1

    def reads_wide(self, v: Value) -> bool:
        """Whether it reads a value in float32, where bfloat16 is computed so."""
        return self.windows or v in self.widened


class Program:
    """The operations of a program in their order.

    Attributes:
      operations: each after those whose results it reads.
      results: what it gives; a tuple stands for a stack of its entries.

    Args:
      expands_pools: whether the gradient of max pooling has arrays of indices.
      alone: whether one device runs it.
    """

    def __init__(self, expands_pools: bool, alone: bool = True):
        self.operations: list[Operation] = []
        self.results: list[Any] = []
        self._expands_pools, self._alone = expands_pools, alone
        self._done: dict[Any, list[Value]] = {}

    def add(
        self, name: str, inputs: list[Value], outputs: list[Any], key: Any = None
    ) -> list[Value]:
        """Adds an operation, unless one with the same key was; gives its results."""
        if key in self._done:
            return self._done[key]
        self.operations.append(Operation(name, inputs, outputs))
        made = self.operations[-1].outputs
        if key is not None:
            self._done[key] = made
        return made

    def run(self, jaxpr: Any, given: list[Any]) -> list[Any]:
        """Adds a traced program's operations, for what it is given; gives its results."""
        values: dict[Any, Any] = dict(zip(jaxpr.invars, given, strict=True))

        def read(v: Any) -> Any:
            return Value(v.aval) if hasattr(v, "val") else values.setdefault(v, Value(v.aval))

        for equation in jaxpr.eqns:
            inputs, inner = [read(v) for v in equation.invars], programs_in(equation)
            if equation.primitive.name == "scan":
                results = self._scan(equation, inner[0], inputs)
            elif len(inner) == 1 and len(inner[0].invars) == len(inputs):
                results = self.run(inner[0], inputs)
            else:
                results = self._plain(equation, inputs)
            values.update(zip(equation.outvars, results, strict=True))
        self.results = [read(v) for v in jaxpr.outvars]
        return self.results

    def _plain(self, equation: Any, inputs: list[Any]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        flat = self._flat(equation, inputs)
        if name == "pixel_sum":  # see pixels.py
            product = jax.default_backend() == "cpu"
            made = self.add(
                "dot_general" if product else "reduce_sum", flat, [equation.outvars[0].aval]
            )
            if (
                product and made[0].by is not None
            ):  # the two that a batch norm sums are made at once
                made[0].by.working = flat[0].bytes
            return made
        outputs = [v.aval for v in equation.outvars]
        if name == "select_and_scatter_add" and self._expands_pools:
            return self._unpool(flat[0], flat[1], params["padding"], outputs[0])
        if name == "conv_k" and not self._alone:  # on CPUs in another layout, see convolution.py
            flat = [self.add("transpose", [v], [v])[0] for v in flat]
            return self.add("transpose", self.add("conv_general_dilated", flat, outputs), outputs)
        pairs = zip(flat, equation.invars, strict=True)
        same = [str(v) if hasattr(v, "val") else id(x) for x, v in pairs]
        made = self.add(name, flat, outputs, (name, str(params), *same))
        on_cpu = self._alone and jax.default_backend() == "cpu"
        operation = made[0].by
        if on_cpu and "geometry" in params and operation is not None:
            asked = name, params["geometry"], outputs[0].dtype
            operation.working = working_memory(*asked)
            operation.in_two_parts = in_two_parts(*asked)
        return made

    def _flat(self, equation: Any, inputs: list[Any]) -> list[Value]:
        """The inputs of an operation, stacks of values made one."""
        return [
            self.add("concatenate", [*x], [v.aval])[0] if isinstance(x, tuple) else x
            for x, v in zip(inputs, equation.invars, strict=True)
        ]

    def _unpool(self, source: Value, operand: Value, padding: Any, out: Any) -> list[Value]:
        """The gradient of max pooling where it finds each window's place by its indices."""
        shape = tuple(n + a + b for n, (a, b) in zip(operand.shape, padding, strict=True))
        int32 = jnp.dtype("int32")
        padded, whole = (jax.ShapeDtypeStruct(shape, t) for t in (operand.dtype, int32))
        index = [self.add("iota", [], [whole])[0] for _ in shape]
        pixels = self.add("pad", [operand], [padded])
        pooled = jax.ShapeDtypeStruct(source.shape, int32)
        found = self.add("reduce_window", pixels + index, [source, *[pooled] * len(shape)])
        all_places = jax.ShapeDtypeStruct((*source.shape, len(shape)), int32)
        places = self.add("concatenate", found[1:], [all_places])
        zeros = self.add("broadcast", [], [padded])
        return self.add("slice", self.add("scatter", [*zeros, *places, source], [padded]), [out])

    def _scan(self, equation: Any, body: Any, inputs: list[Any]) -> list[Any]:
        """A loop over constants, what is carried, and what is scanned, which alone has more axes.

        Unrolled, its turns are written out; what it stacks stays a tuple of its turns.
        """
        length, reverse = equation.params["length"], equation.params["reverse"]
        carries = sum(map(same_rank, equation.outvars, body.outvars))
        consts = sum(map(same_rank, equation.invars, body.invars)) - carries
        begin = consts + carries
        if length > equation.params["unroll"]:
            return self._loop(equation, body, self._flat(equation, inputs), consts, carries)
        carry, turns = inputs[consts:begin], []
        for turn in reversed(range(length)) if reverse else range(length):
            pieces = [
                x[turn]
                if isinstance(x, tuple)
                else self.add("slice", [x], [v.aval], ("slice", id(x), turn))[0]
                for x, v in zip(inputs[begin:], body.invars[begin:], strict=True)
            ]
            results = self.run(body, [*inputs[:consts], *carry, *pieces])
            carry = results[:carries]
            turns.append(results[carries:])
        return [*carry, *zip(*(reversed(turns) if reverse else turns), strict=True)]

    def _loop(
        self, equation: Any, body: Any, inputs: list[Value], consts: int, carries: int
    ) -> list[Value]:
        """A loop as one operation; what does not change in it is done before it, as XLA does."""
        inside = Program(self._expands_pools, self._alone)
        given = [Value(v.aval) for v in body.invars[: consts + carries]]
        scanned = [v.aval for v in body.invars[consts + carries :]]
        inside.run(body, [*given, *(inside.add("slice", [], scanned) if scanned else [])])
        outside = dict(zip(given[:consts], inputs, strict=False))
        within = []
        for op in inside.operations:
            fixed = op.inputs and not op.slow and all(v in outside for v in op.inputs)
            if fixed and _largest(op.outputs) <= 2 * _largest(op.inputs):
                made = self.add(op.name, [outside[v] for v in op.inputs], op.outputs)
                outside.update(zip(op.outputs, made, strict=True))
                for v in op.outputs:
                    v.by = None
            else:
                within.append(op)
        inside.operations = within
        hoisted = {v for op in within for v in op.inputs if v in outside} - {*given}
        outs = [v.aval for v in equation.outvars]
        stacks = [self.add("broadcast", [], [out])[0] for out in outs[carries:]]
        results = self.add("scan", [*inputs, *(outside[v] for v in hoisted), *stacks], outs)
        loop = self.operations[-1]
        loop.body = inside
        loop.widened = {
            outside[v] for op in within for v in op.inputs if op.convolves and v in outside
        }
        return results


def _largest(values: list[Value]) -> int:
    return max(v.bytes for v in values)


def same_rank(outside: Any, inside: Any) -> bool:
    """Whether a variable of a loop is whole inside it: it is no scanned one."""
    return outside.aval.ndim == inside.aval.ndim


def programs_in(equation: Any) -> list[Any]:
    """The programs inside an operation."""
    values = (
        item
        for value in equation.params.values()
        for item in (value if isinstance(value, tuple | list) else (value,))
    )
    jaxprs = (getattr(value, "jaxpr", value) for value in values)
    return [jaxpr for jaxpr in jaxprs if hasattr(jaxpr, "eqns")]
