"""Costs are those of the network that runs: of the traced program, and of the known networks."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from networks import SMALL

import mgnet_jax
from mgnet_jax.models.layers import Head

SHAPE = (32, 40, 3)


def traced_macs(jaxpr: Any, times: int = 1) -> Iterator[int]:
    """Multiply-adds of every convolution and matrix product in a jaxpr, loops multiplied out."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            _, kernel = (v.aval for v in equation.invars)
            out = equation.outvars[0].aval
            yield times * out.size * kernel.size // kernel.shape[3]
        elif equation.primitive.name == "dot_general":
            yield times * equation.outvars[0].aval.size * equation.invars[0].aval.shape[-1]
        inner = times * equation.params.get("length", 1)
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from traced_macs(value.jaxpr, inner)
            elif hasattr(value, "eqns"):
                yield from traced_macs(value, inner)


@pytest.mark.parametrize(
    ("name", "options", "unread"),
    [  # the trace holds work too whose result nobody reads: the last A of the coarsest grid
        *((name, {}, 0) for key, name in SMALL.items() if key != "mgnet"),
        (SMALL["mgnet"], {}, 9 * 5 * 7 * 16 * 20),
        (SMALL["mgnet"], {"form": "direct"}, 9 * 5 * 7 * 16 * 20),
        (SMALL["mgnet"], {"stem": "imagenet"}, 9 * 5 * 7 * 4 * 5),
        ("pre-act ResNet1001", {}, 0),
        ("ResNet18", {"stem": "imagenet"}, 0),
    ],
)
def test_counted_work_is_the_work_done(name: str, options: dict[str, Any], unread: int) -> None:
    model = mgnet_jax.create(name, 9, **options)
    images = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(model.clone(convolution="xla").apply)(variables, images)
    costs = mgnet_jax.count(model, SHAPE)
    assert sum(traced_macs(jaxpr.jaxpr)) == costs.macs + unread
    assert costs.parameters == sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert [part.name for part in costs.parts][-1] == "head"
    assert {part.name for part in costs.parts} == set(variables["params"])


def test_parts_are_counted_where_they_are() -> None:
    """MgNet[2,3]-[(6,4),(5,7)]-B^l on 8x8, by hand."""
    costs = mgnet_jax.count(mgnet_jax.create("MgNet[2,3]-[(6,4),(5,7)]-B^l", 3), (8, 8, 1))
    found = [(p.name, p.output, p.parameters, p.macs, p.unused) for p in costs.parts]
    A, A2 = 9 * 6 * 4, 9 * 5 * 7
    transfers = 9 * (6 * 5 + 4 * 7)
    assert found == [
        ("stem", (8, 8, 4), 9 * 4 + 8, 64 * 9 * 4, 0),
        ("level1", (8, 8, 6), 2 * A + 2 * 2 * (6 + 4), 64 * A * (2 + 2), 0),
        ("restrict1", (4, 4, 5), transfers + 2 * (5 + 7), 16 * transfers, 0),
        ("level2", (4, 4, 5), 2 * A2 + 3 * 2 * (5 + 7), 16 * A2 * (3 + 2), 0),
        ("head", (3,), 3 * 6, 3 * 5, 0),
    ]


def gmac(name: str, classes: int, stem: str, size: int, **options: Any) -> float:
    model = mgnet_jax.create(name, classes, stem, **options)
    return round(mgnet_jax.count(model, (size, size, 3)).macs / 1e9, 3)


def test_work_of_the_papers_networks() -> None:
    cifar = ("MgNet[2,2,2,2]-256-B^l", 100, "cifar", 32)
    imagenet = ("MgNet[2,2,2,2]-[64,128,256,512]-B^l", 1000, "imagenet", 224)
    assert [gmac(*cifar, form=form) for form in ("direct", "dual")] == [4.603, 3.603]
    assert [gmac(*imagenet, form=form) for form in ("direct", "dual")] == [3.009, 2.199]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("AlexNet@torchvision", 0.714),
        ("VGG19", 19.632),
        ("ResNet18", 1.814),
        ("ResNet34", 3.664),
        ("ResNet50", 4.089),
        ("WRN-50-2", 11.398),
    ],
)
def test_work_is_what_torchvision_publishes(name: str, published: float) -> None:
    assert gmac(name, 1000, "imagenet", 224) == published


def test_what_has_no_effect_is_unused() -> None:
    """One step on the coarsest grid never reads its A; two do.

    The direct form adds A u and takes it away again, which only a person can see.
    """
    for nu, unused in ((1, {"level2": 9 * 8 * 8}), (2, {})):
        parts = mgnet_jax.count(mgnet_jax.create(f"MgNet[1,{nu}]-[4,8]-B^l", 3), (8, 8, 1)).parts
        assert {p.name: p.unused for p in parts if p.unused} == unused


def test_unused_parameters_get_no_gradient_and_the_others_do() -> None:
    model = mgnet_jax.create("MgNet[1,1]-[4,8]-B^l", 3)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    variables = model.init(jax.random.key(0), images)
    grads = jax.jit(
        jax.grad(lambda p: jnp.sum(model.apply({**variables, "params": p}, images) ** 2))
    )(variables["params"])
    assert not jnp.any(grads["level2"].pop("A"))
    assert all(jnp.any(g) for g in jax.tree.leaves(grads))


def test_a_parameter_of_the_network_itself_is_a_part() -> None:
    class Gain(type(mgnet_jax.create("MgNet[1]-[2]-B^l", 3))):
        @nn.compact
        def forward(self, images: Any, train: bool) -> Any:
            gain = self.param("gain", nn.initializers.ones, (3,))
            return Head(3, name="head")(images) * gain

    costs = mgnet_jax.count(Gain(mgnet_jax.parse("MgNet[1]-[2]-B^l"), 3), (4, 4, 2))
    assert {p.name: (p.parameters, p.output) for p in costs.parts} == {
        "head": (9, (3,)),
        "gain": (3, ()),
    }
