"""The core: sixteen forms of A and B, Theorem 4.1, shared kernels, loops and straight lines."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from networks import SMALL, images_and_variables, largest_difference, outcome

import mgnet_jax
from mgnet_jax.models import parse
from mgnet_jax.models.convolution import conv
from mgnet_jax.models.iteration import Level, ResidualStep, Scheme
from mgnet_jax.models.layers import Compute
from mgnet_jax.models.maps import FORMS, Map
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.models.resnet import Grid


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def algorithm_3(variables: Any, spec: Any, images: jax.Array) -> jax.Array:
    """The paper's Algorithm 3, symbol by symbol, in evaluation; (4.12) read as (3.7)."""

    def bn(x: jax.Array, place: list[str], i: int | None) -> jax.Array:
        p, s = variables["params"], variables["batch_stats"]
        for name in place:
            p, s = p[name], s[name]
        p, s = (p, s) if i is None else jax.tree.map(lambda v: v[i], (p, s))
        return p["scale"] * (x - s["mean"]) / jnp.sqrt(s["var"] + 1e-5) + p["bias"]

    def act(
        form: str, x: jax.Array, kernel: Any, place: list[str], names: Any, i: Any, always: bool
    ):
        before, after = names
        if form[-1] == "s":
            x = nn.relu(bn(x, [*place, before], i))
        x = conv(x, kernel)
        if form[0] == "s" or always:
            x = bn(x, [*place, after], i)
        return nn.relu(x) if form[0] == "s" else x

    params = variables["params"]

    def A(u: jax.Array, l: int, i: int | None, where: str = "") -> jax.Array:
        place = [f"level{l}"] if where else [f"level{l}", "step"]
        names = (f"bn_{where}u", f"bn_{where}A")
        return act(spec.A, u, params[f"level{l}"]["A"], place, names, i, False)

    f = nn.relu(bn(conv(images, params["stem"]["conv"]["kernel"]), ["stem", "conv", "bn"], None))
    r = f
    u = jnp.zeros((*f.shape[:3], spec.channels[0][0]), f.dtype)
    for l, nu in enumerate(spec.nu, 1):
        level = params[f"level{l}"]
        if l > 1:
            f = r + A(u, l, None, "enter_")
        for i in range(nu):
            B = level["B"] if spec.share_B else level["B"][i]
            place = [f"level{l}", "step"]
            u = u + act(spec.B, f - A(u, l, i), B, place, ("bn_r", "bn_B"), i, True)
        if l < len(spec.nu):
            names, transfer = f"restrict{l}", params[f"restrict{l}"]
            r = f - A(u, l, None, "leave_")
            r = nn.relu(bn(conv(r, transfer["R"]["kernel"], 2), [names, "R", "bn"], None))
            u = nn.relu(bn(conv(u, transfer["Pi"]["kernel"], 2), [names, "Pi", "bn"], None))
    head = params["head"]["linear"]
    return u.mean((1, 2)) @ head["kernel"] + head["bias"]


@pytest.mark.parametrize("A", FORMS)
@pytest.mark.parametrize("B", FORMS)
def test_the_sixteen_forms_are_algorithm_3(A: str, B: str, x64: None) -> None:
    name = f"DataFeature({A},{B})[2,1]-[(3,2),(2,4)]-B^{'l' if A == B else '{l,i}'}"
    model = mgnet_jax.create(name, 3, dtype="float64")
    images, variables = images_and_variables(model, jnp.float64)
    logits = jax.jit(model.apply)(variables, images)
    expected = jax.jit(lambda v, x: algorithm_3(v, parse(name), x))(variables, images)
    assert largest_difference(logits, expected) <= 1e-10
    if A == "K":  # linear: both forms are there
        direct = mgnet_jax.create(name, 3, dtype="float64", form="direct")
        assert largest_difference(jax.jit(direct.apply)(variables, images), expected) <= 1e-10


@pytest.mark.parametrize("form", ["dual", "direct"])
def test_K_and_sKs_are_mgnet_bit_for_bit(form: str) -> None:
    grids = "[2,1]-[(3,2),(2,4)]-B^l"
    models = [
        mgnet_jax.create(family + grids, 3, form=form) for family in ("MgNet", "DataFeature(K,sKs)")
    ]
    results = []
    for model in models:
        images, variables = images_and_variables(model)
        results.append((variables, outcome(model, images, variables, True, quick=True)))
    chex.assert_trees_all_equal(*results)


class Both(nn.Module):
    """One grid of a scheme as MgNet and as a ResNet run it; they record r and u."""

    kind: str

    @nn.compact
    def __call__(self, r: jax.Array) -> None:
        compute = Compute(param_dtype=jnp.float64, unroll=1)
        c = r.shape[-1]
        if self.kind == "resnet":
            scheme = Scheme(Map("K"), Map("sKs"), share_B=False, sign=1)
            Grid(scheme, 3, c, False, False, compute, name="level")(r, True)
        else:
            scheme = Scheme(Map("K"), Map("sKs", norm=True), share_B=False, form=self.kind)
            Level(scheme, 3, c, c, first=True, compute=compute, name="level")(r * 0, r, True)


@pytest.mark.parametrize("kind", ["dual", "direct"])
def test_theorem_4_1(kind: str, x64: None) -> None:
    """A pre-act ResNet's A^l-B^{l,i} is MgNet's iteration with A negated: r of every step, u."""
    r = jax.random.normal(jax.random.key(0), (3, 6, 5, 4), jnp.float64)
    resnet = Both("resnet")
    variables = resnet.init(jax.random.key(1), r)
    negated = jax.tree.map(lambda x: x, variables)
    negated["params"]["level"]["A"] *= -1

    def states(model: nn.Module, variables: Any) -> Any:
        mutable = ["intermediates", "batch_stats"]
        _, out = jax.jit(lambda v: model.apply(v, r, mutable=mutable))(variables)
        found = out["intermediates"]["level"]
        joined = {n: jnp.concatenate([found["step"][n][0], found[n][0][None]]) for n in "ur"}
        return joined, out["batch_stats"]

    expected, actual = states(resnet, variables), states(Both(kind), negated)
    assert expected[0]["r"].shape == (4, 3, 6, 5, 4)
    assert largest_difference(actual, expected) <= 1e-10
    wrong = states(Both(kind), variables)[0]
    assert largest_difference(wrong["r"], expected[0]["r"]) > 1e-2


SHARED = [
    ("MgNet[3,2]-[4]-B^l", "MgNet[3,2]-[4]-B^{l,i}", ["B"]),
    ("ResNet[3,3]-[4,6]-A^l-B^l", "ResNet[3,3]-[4,6]-A^{l,i}-B^{l,i}", ["A", "B"]),
    ("pre-act ResNet[3,3]-[4,6]-A^l-B^{l,i}", "pre-act ResNet[3,3]-[4,6]-A^{l,i}-B^{l,i}", ["A"]),
]


@pytest.mark.parametrize(("one", "many", "kernels"), SHARED)
def test_a_shared_kernels_gradient_is_the_sum_of_the_unshared_ones(
    one: str, many: str, kernels: list[str], x64: None
) -> None:
    shared, unshared = (mgnet_jax.create(n, 3, dtype="float64") for n in (one, many))
    images, variables = images_and_variables(shared, jnp.float64)
    shapes = jax.eval_shape(unshared.init, jax.random.key(0), images)
    copied = jax.tree.map(lambda x, s: jnp.broadcast_to(x, s.shape), variables, shapes)
    a, b = (
        outcome(shared, images, variables, True, quick=True),
        outcome(unshared, images, copied, True, quick=True),
    )
    for level in ("level1", "level2"):
        for kernel in kernels:
            b["grads"][level][kernel] = b["grads"][level][kernel].sum(0)
    assert largest_difference(a, b) <= 1e-10


LOOPS = [name for name in SMALL.values() if name not in ("AlexNet", "VGG19")]


@pytest.mark.parametrize("name", LOOPS)
def test_scanned_is_straight_line(name: str) -> None:
    loop = mgnet_jax.create(name, 3, unroll=1)
    images, variables = images_and_variables(loop)
    scanned = outcome(loop, images, variables, True, quick=True)
    straight = outcome(loop.clone(unroll=100), images, variables, True, quick=True)
    assert largest_difference(scanned["logits"], straight["logits"]) <= 1e-5
    # a gradient can hang on a ReLU whose argument rounds to the other side of 0
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(straight["grads"]))
    chex.assert_trees_all_close(scanned["grads"], straight["grads"], rtol=2e-2, atol=1e-3 * scale)
    chex.assert_trees_all_close(
        scanned["batch_stats"], straight["batch_stats"], rtol=1e-4, atol=1e-5
    )


def test_a_new_step_needs_no_change_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damped smoothing, u <- u + w d with a learned w, in the place of the step."""

    class Damped(ResidualStep):
        @nn.compact
        def __call__(self, carry: Any, A: Any, B: Any, _: Any) -> Any:
            u, r = carry
            w = self.param("w", nn.initializers.constant(0.5), ())
            norm = self.compute.norm(self.train)
            d = w * self.scheme.B(r, B, self.compute, norm, "r B")
            return (u + d, r - self.compute.conv(d, A)), None

    name, shape = "MgNet[2,3]-[4]-B^l", (8, 8, 1)
    before = mgnet_jax.count(mgnet_jax.create(name, 3), shape)
    scheme = dataclasses.replace(parse(name).scheme, residual_step=Damped)
    monkeypatch.setattr(MgNetSpec, "scheme", scheme)
    model = mgnet_jax.create(name, 3)
    after = mgnet_jax.count(model, shape)
    assert after.parameters == before.parameters + 5
    assert after.macs == before.macs
    images, variables = images_and_variables(model)
    assert outcome(model, images, variables, True, quick=True)["grads"]["level2"]["step"][
        "w"
    ].shape == (3,)


def test_the_spec_says_what_is_shared() -> None:
    schemes = {
        name: parse(name).scheme
        for name in ("MgNet[1]-[2]-B^l", "pre-act ResNet18-A^l-B^{l,i}", "ResNet18")
    }
    mgnet, pre_act, resnet = schemes.values()
    assert (mgnet.share_A, mgnet.share_B) == (True, True)
    assert (pre_act.share_A, pre_act.share_B) == (True, False)
    assert not resnet.share_A
    # MgNet with A negated and B^{l,i} is the modified pre-act ResNet
    negated = dataclasses.replace(mgnet, sign=1, share_B=False, B=Map("sKs"))
    assert negated == pre_act
