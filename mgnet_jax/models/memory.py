"""The memory that a training step needs, told from its traced program before it is compiled.

A compiler keeps few of a program's values in memory: most are computed again wherever they are
read, within the loop that reads them. Which it keeps, and when, is followed here by XLA's own
rules:

- Convolutions, matrix products, windows and loops read and write memory; elementwise work does not.
  How the compiler at hand treats sums, pooling and bfloat16 is tried on tiny programs (habits.py).
- A value that must be in memory for one reader is there for all of them, unless it is made of one
  array as large; then the other readers compute it again.
- What depends on nothing slow that is still to come is done at once: kernels are transposed for the
  backward pass when the step begins. Gradients of kernels that are a loop and a rest of
  images (on CPUs) are done last.
- A parameter is replaced in place. If its gradient does not wait for all who read the old one, it
  is copied.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgnet_jax.models.cost import Shape, abstract
from mgnet_jax.models.habits import habits
from mgnet_jax.models.network import Network
from mgnet_jax.models.program import Operation, Program, Value

_REARRANGE = ("transpose", "reshape", "slice", "broadcast_in_dim", "squeeze", "rev")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes at the moment of a training step when most are in use, besides what it is given.

    Attributes:
      activations: what the forward pass has made and the backward pass will read: inputs and
        outputs of convolutions, and what batch norm reads again.
      working: all else: kernels transposed, parameters copied, gradients not used up yet, places
        of pooling, and what the operation under way reads and writes.
    """

    activations: int
    working: int

    @property
    def total(self) -> int:
        """Both."""
        return self.activations + self.working


def step_memory(
    model: Network, image_shape: Shape, batch: int, parts: int = 1, alone: bool = True
) -> Memory:
    """What a step of training needs besides weights, momentum and images, on one device.

    Args:
      model: the network.
      image_shape: (height, width, channels).
      batch: images at once.
      parts: how often a batch is computed before the parameters change.
      alone: whether no other devices share the batch.
    """
    variables, images = abstract(model, image_shape, batch)
    rest = {key: value for key, value in variables.items() if key != "params"}

    def gradients(params: Any, rest: Any, images: Any, key: Any, cotangent: Any) -> Any:
        def forward(params: Any) -> Any:
            return model.apply(
                {"params": params, **rest},
                images.astype(model.compute.param_dtype),
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )

        _, backward, updated = jax.vjp(forward, params, has_aux=True)
        return backward(cotangent)[0], updated

    key = jax.eval_shape(lambda: jax.random.key(0))
    pixels = jax.ShapeDtypeStruct(images.shape, jnp.uint8)
    cotangent = jax.ShapeDtypeStruct((batch, model.num_classes), images.dtype)
    params = variables["params"]
    jaxpr = jax.make_jaxpr(gradients)(params, rest, pixels, key, cotangent).jaxpr
    program = Program(habits().expands_pools, alone)
    given = [Value(v.aval) for v in jaxpr.invars]
    program.run(jaxpr, given)
    turn = next(i for i, op in enumerate(program.operations) if given[-1] in op.inputs)
    replaced = given[: len(jax.tree.leaves(params))]
    memory = peak(program, turn, replaced if parts == 1 else None)
    summed = sum(v.bytes for v in replaced) if parts > 1 else 0
    return Memory(memory.activations, memory.working + summed)


def peak(program: Program, turn: int = 0, replaced: list[Value] | None = None) -> Memory:
    """The worst moment of a program.

    Args:
      program: one that has been run.
      turn: the number of operations that are the forward pass.
      replaced: the given values that the first results replace as soon as they are there; None if
        all results are kept to the end.
    """
    groups = [v if isinstance(v, tuple) else (v,) for v in program.results]
    results = {v for group in groups for v in group}
    live = _live(program, results)
    for op in reversed(live):
        for v in op.outputs:
            _decide(op, v, v in results)
    reads = {op: _buffers_read(op) for op in live}
    late = _late(live)
    for op in live:
        waits = max((v.by.ready for v in reads[op] if v.by), default=-1)
        op.ready = late.get(op, op.index) if op.slow else waits
    order = sorted(live, key=lambda op: (op.ready, op.index))
    buffers = _lives(order, reads)
    for group in groups:
        last = max(v.birth for v in group) if replaced is not None else len(order)
        for v in group:
            v.death = max(v.death, last)
    if replaced is not None:
        buffers += _copies(live, replaced, groups)
    _reuse(order, reads)
    turn_place = next((op.place for op in order if op.ready >= turn), len(order))
    change = np.zeros((2, len(order) + 2), object)  # activations; all: whole numbers of any size
    for v in buffers:
        kept = v.by is not None and 0 <= v.by.ready < turn and v.death >= turn_place
        for row in change[1 - kept :]:
            row[v.birth] += v.bytes
            row[v.death + 1] -= v.bytes
    activations, total = np.cumsum(change, axis=1)
    for op in order:
        total[op.place] += op.working if op.body is None else peak(op.body).total
    worst = int(np.argmax(total))
    return Memory(int(activations[worst]), int(total[worst] - activations[worst]))


def _live(program: Program, results: set[Value]) -> list[Operation]:
    """The operations whose results are wanted; notes the readers of every value."""
    for index, op in enumerate(program.operations):
        op.index = index
    for op in reversed(program.operations):
        op.live = any(v.readers or v in results for v in op.outputs)
        if op.live:
            for v in op.inputs:
                v.readers.append(op)
    return [op for op in program.operations if op.live]


def _late(live: list[Operation]) -> dict[Operation, float]:
    """When gradients of kernels in two parts are done: after what leads on to earlier layers."""
    late, after, scan = {}, None, None
    for op in reversed([op for op in live if op.slow]):
        if op.in_two_parts and after:
            late[op] = (scan or after).index + 0.5
        after, scan = op, op if op.name == "scan" else scan
    return late


def _decide(op: Operation, v: Value, result: bool) -> None:
    """Decides whether what an operation makes gets a buffer, and who reads it there."""
    rounded = False
    if v.dtype == jnp.bfloat16 and habits().widens:
        v.wide = op.windows or any(reader.reads_wide(v) for reader in v.readers)
        rounded = not op.convolves and op.name not in _REARRANGE
    given = op.buffered or op.sums or result or rounded
    v.buffer = given or any(_needs(reader, v) for reader in v.readers)
    v.shared = given or not op.unary


def _needs(op: Operation, v: Value) -> bool:
    """Whether an operation can read a value from memory only."""
    if op.buffered or len(v.readers) == 1:
        return op.buffered
    if op.sums:
        return habits().sums
    if op.name in ("mul", "square") and habits().products:
        after = [reader.sums for x in op.outputs for reader in x.readers]
        return bool(after) and all(after)
    return False


def _buffers_read(op: Operation) -> list[Value]:
    """The buffers that an operation reads, for itself and for what it computes again."""
    found, seen = [], set()
    todo = [(v, op) for v in op.inputs]
    while todo:
        v, reader = todo.pop()
        direct = v.buffer and (v.shared or _needs(reader, v))
        if v.by is not None and (v, direct) not in seen:
            seen.add((v, direct))
            if direct:
                found.append(v)
            else:
                todo += [(x, v.by) for x in v.by.inputs]
    return found


def _lives(order: list[Operation], reads: dict[Operation, list[Value]]) -> list[Value]:
    """Sets every operation's place, and the birth and death of every buffer; returns these."""
    buffers = []
    for place, op in enumerate(order):
        op.place = place
        for v in op.outputs:
            v.birth = v.death = place
        buffers += [v for v in op.outputs if v.buffer]
    for op in order:
        if op.buffered or any(v.buffer for v in op.outputs):
            for v in reads[op]:
                v.death = max(v.death, op.place)
    return buffers


def _copies(live: list[Operation], replaced: list[Value], groups: list[Any]) -> list[Value]:
    """Copies of given values whose readers might come after the result that replaces them."""
    waits_for: dict[Operation, int] = {}  # a bit for each operation
    for op in live:
        waits_for[op] = 1 << op.index
        for v in op.inputs:
            waits_for[op] |= waits_for[v.by] if v.by is not None else 0
    copies = []
    for old, group in zip(replaced, groups, strict=False):
        before = 0
        for v in group:
            before |= waits_for[v.by] if v.by is not None else 0
        if any(not before >> reader.index & 1 for reader in old.readers):
            copy = Value(old)
            copy.death = max([v.birth for v in group] + [reader.place for reader in old.readers])
            copies.append(copy)
    return copies


def _reuse(order: list[Operation], reads: dict[Operation, list[Value]]) -> None:
    """Lets results take the place of what is read for the last time, where they can."""
    for op in order:
        if op.name == "concatenate" or (op.slow and op.body is None):
            continue
        for v in op.outputs if op.live else ():
            for x in reads[op] if v.buffer else ():
                if x.death == op.place > x.birth and x.bytes == v.bytes:
                    x.death -= 1
                    break
