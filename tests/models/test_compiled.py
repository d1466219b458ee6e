"""What is in the program of a training step, and what is not: casts, transposes, their types."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mgnet_jax

BATCH, CHANNELS = 8, 24
OPERATION = re.compile(r"(%\w+)(?::\d+)? = \"?stablehlo\.(\w+)\"?\(?(%\w+)")


def lowered(dtype: str, **options: Any) -> Any:
    """The gradients of a network of two grids, the steps of each of which are a loop."""
    spec = f"MgNet[5,5]-[{CHANNELS}]-B^l"
    model = mgnet_jax.create(spec, 10, dtype=dtype, unroll=1, **options)
    images = jax.ShapeDtypeStruct((BATCH, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(params: Any, stats: Any, images: Any) -> Any:
        logits, new = model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.square(logits)), new  # type: ignore[arg-type]

    traced = jax.jit(jax.grad(loss, has_aux=True)).trace(
        variables["params"], variables["batch_stats"], images
    )
    return traced.lower


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_step_for_accelerators_casts_and_transposes_nothing_in_vain(
    dtype: str, platform: str
) -> None:
    """Convolutions are of the chosen type; kernels' gradients are summed in float32.

    Nothing is cast there and back without being used between, and no activation is transposed.
    """
    text = lowered(dtype)(lowering_platforms=(platform,)).as_text()
    short = {"bfloat16": "bf16", "float32": "f32"}[dtype]
    convolutions = re.findall(r"stablehlo\.convolution.*: (.*)", text)
    assert len(convolutions) == 20  # forward, and the gradients of images and of kernels
    for types in convolutions:
        assert set(re.findall(r"x([a-z]+\d+)>", types)) == {short}, types
    kernel = f"tensor<3x3x{CHANNELS}x{CHANNELS}x"
    sums = re.findall(rf"stablehlo\.add .*: {kernel}([a-z]+\d+)>", text)
    assert sums and set(sums) == {"f32"}
    transposed = re.findall(r"stablehlo\.transpose.*: \(tensor<([^>]*)>\)", text)
    assert not [x for x in transposed if x.startswith(f"{BATCH}x")]
    for function in text.split("func.func")[1:]:
        made: dict[str, str] = {}
        for line in function.splitlines():
            if found := OPERATION.search(line):
                result, operation, operand = found.groups()
                assert not (operation == "convert" and made.get(operand) == "convert"), line
                made[result] = operation
    if dtype == "float32":
        assert "bf16" not in text


def test_a_compiled_step_in_float32_has_no_casts_and_transposes_nothing_in_its_loops() -> None:
    """The optimised program, with XLA's own convolutions."""
    text = lowered("float32", convolution="xla")().compile().as_text()
    arrays = re.findall(r"= \w+\[([\d,]+)\]\S* convert\(", text)
    assert not [shape for shape in arrays if shape.startswith(f"{BATCH},")]
    parts = {x.split(" ", 1)[0].lstrip("%"): x for x in re.split(r"\n(?=%)", text)}
    bodies = re.findall(r"body=%([\w.\-]+)", text)
    assert len(bodies) == 4  # two grids, forward and backward
    for body in bodies:
        inside = "\n".join(parts[name] for name in reached(body, parts))
        assert "convolution(" in inside or "dot(" in inside or "custom-call" in inside
        assert not re.search(r"= f32\[[\d,]+\]\S* transpose\(", inside)


def reached(name: str, parts: dict[str, str]) -> set[str]:
    """The computation of that name, and all that it calls."""
    found, waiting = set[str](), [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r"(?:calls|to_apply|body)=%([\w.\-]+)", parts[name])
    return found
