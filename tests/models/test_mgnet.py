"""MgNet against the paper: Algorithm 2 written out, Theorem 4.1, the printed tables."""

from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mgnet_jax
from mgnet_jax.models import MgNet, ModelError, layers, parse

SPECS = ["MgNet[2,3]-[6]-B^l", "MgNet[3,1]-[(6,4),(5,7)]-B^{l,i}"]


def images_and_variables(model: MgNet, dtype: Any = jnp.float32) -> tuple[jax.Array, Any]:
    """A batch, and variables in which every parameter and statistic is away from its default."""
    images = jax.random.normal(jax.random.key(0), (5, 8, 7, 2), dtype)
    variables = model.init(jax.random.key(1), images)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [x + 0.1 * jnp.abs(jax.random.normal(k, x.shape, x.dtype)) for x, k in
             zip(leaves, keys, strict=True)]  # fmt: skip
    return images, jax.tree.unflatten(tree, moved)


def outcome(model: MgNet, images: jax.Array, variables: Any, train: bool) -> Any:
    """Logits, gradients of all parameters, and new batch statistics."""

    def loss(params: Any) -> Any:
        logits, new = model.apply(
            {**variables, "params": params}, images, train=train, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(logits) * jnp.arange(logits.size).reshape(logits.shape)), (
            logits,
            new["batch_stats"],
        )

    grads, (logits, stats) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return {"logits": logits, "grads": grads, "batch_stats": stats}


def largest_difference(a: Any, b: Any) -> float:
    """Largest difference of two trees, each leaf relative to its largest entry."""
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    return max(
        float(jnp.abs(x - y).max() / jnp.maximum(jnp.abs(y).max(), 1e-30))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if x.size
    )


def algorithm_2(variables: Any, spec: Any, images: jax.Array) -> jax.Array:
    """The paper's Algorithm 2, symbol by symbol, in evaluation."""
    params, stats = variables["params"], variables["batch_stats"]

    def bn(x: jax.Array, place: tuple[str, ...], i: int | None = None) -> jax.Array:
        p, s = params, stats
        for name in place:
            p, s = p[name], s[name]
        if i is not None:
            p, s = jax.tree.map(lambda v: v[i], (p, s))
        return p["scale"] * (x - s["mean"]) / jnp.sqrt(s["var"] + 1e-5) + p["bias"]

    relu, K = jax.nn.relu, layers.conv
    f = relu(bn(K(images, params["stem"]["conv"]["kernel"]), ("stem", "conv", "bn")))
    u = jnp.zeros((*f.shape[:3], spec.channels[0][0]), f.dtype)
    J = len(spec.nu)
    for l, nu in enumerate(spec.nu, 1):
        level = params[f"level{l}"]
        A = level["A"]
        for i in range(nu):
            B = level["B"] if spec.share_B else level["B"][i]
            step = (f"level{l}", "step")
            r = relu(bn(f - K(u, A), (*step, "bn_r"), i))
            u = u + relu(bn(K(r, B), (*step, "bn_B"), i))
        if l < J:
            names, transfer = f"restrict{l}", params[f"restrict{l}"]
            A_next = params[f"level{l + 1}"]["A"]
            u_next = relu(bn(K(u, transfer["Pi"]["kernel"], 2), (names, "Pi", "bn")))
            r_next = relu(bn(K(f - K(u, A), transfer["R"]["kernel"], 2), (names, "R", "bn")))
            f = r_next + K(u_next, A_next)
            u = u_next
    head = params["head"]["linear"]
    return u.mean((1, 2)) @ head["kernel"] + head["bias"]


@pytest.fixture(params=SPECS, scope="module")
def spec(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def dual(spec: str) -> Any:
    """The dual, scanned outcome in training and in evaluation, float32."""
    model = mgnet_jax.create(spec, 3, unroll=1)
    images, variables = images_and_variables(model)
    return images, variables, {t: outcome(model, images, variables, t) for t in (True, False)}


def test_both_forms_are_algorithm_2(spec: str, dual: Any) -> None:
    images, variables, outcomes = dual
    expected = algorithm_2(variables, parse(spec), images)
    assert largest_difference(outcomes[False]["logits"], expected) <= 1e-5
    direct = mgnet_jax.create(spec, 3, form="direct").apply(variables, images)
    assert largest_difference(direct, expected) <= 1e-5


@pytest.mark.parametrize("train", [True, False])
def test_dual_is_direct(spec: str, dual: Any, train: bool) -> None:
    """Theorem 4.1 in float32: the bar is 1e-4 relative on the logits."""
    images, variables, outcomes = dual
    direct = outcome(mgnet_jax.create(spec, 3, form="direct", unroll=1), images, variables, train)
    assert largest_difference(outcomes[train]["logits"], direct["logits"]) <= 1e-4
    assert largest_difference(outcomes[train]["batch_stats"], direct["batch_stats"]) <= 1e-4
    # a gradient can hang on a ReLU whose argument rounds to the other side of 0
    chex.assert_trees_all_close(outcomes[train]["grads"], direct["grads"], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("train", [True, False])
def test_dual_is_direct_in_float64(spec: str, train: bool) -> None:
    """The bar in x64 is 1e-10 relative on the logits; gradients and statistics keep it too."""
    with jax.enable_x64(True):
        options = {"unroll": 1, "dtype": "float64"}
        forms = [mgnet_jax.create(spec, 3, form=f, **options) for f in ("dual", "direct")]
        images, variables = images_and_variables(forms[0], jnp.float64)
        a, b = (outcome(model, images, variables, train) for model in forms)
        assert a["logits"].dtype == jnp.float64
        assert largest_difference(a, b) <= 1e-10


@pytest.mark.parametrize("train", [True, False])
def test_scan_is_the_unrolled_loop(spec: str, dual: Any, train: bool) -> None:
    images, variables, outcomes = dual
    for options in ({"unroll": 100}, {"unroll": 2}, {"unroll": 1, "remat": True}):
        other = outcome(mgnet_jax.create(spec, 3, **options), images, variables, train)
        assert largest_difference(outcomes[train]["logits"], other["logits"]) <= 1e-6
        assert largest_difference(outcomes[train], other) <= 1e-4


def test_remat_needs_less_memory() -> None:
    def working_memory(remat: bool) -> int:
        model = mgnet_jax.create("MgNet[4]-[8]-B^l", 3, remat=remat)
        images = jnp.zeros((8, 16, 16, 1))
        variables = jax.eval_shape(model.init, jax.random.key(0), images)

        def loss(variables: Any) -> Any:
            logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return logits.sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert working_memory(remat=True) < 0.75 * working_memory(remat=False)


def test_flax_and_numpy_values_are_taken() -> None:
    model = mgnet_jax.create(SPECS[0], np.int64(3), dtype=jnp.bfloat16, name="backbone")
    assert (model.num_classes, model.dtype, model.name) == (3, "bfloat16", "backbone")


def test_A_is_shared_over_the_steps_and_B_as_the_name_says() -> None:
    images = jnp.zeros((1, 8, 8, 1))
    shared = mgnet_jax.create("MgNet[4,2]-[6]-B^l", 3).init(jax.random.key(0), images)["params"]
    wise = mgnet_jax.create("MgNet[4,2]-[6]-B^{l,i}", 3).init(jax.random.key(0), images)["params"]
    chex.assert_shape([shared["level1"]["A"], wise["level1"]["A"]], (3, 3, 6, 6))
    chex.assert_shape(shared["level1"]["B"], (3, 3, 6, 6))
    chex.assert_shape(wise["level1"]["B"], (4, 3, 3, 6, 6))
    chex.assert_shape(wise["level1"]["step"]["bn_r"]["scale"], (4, 6))
    kernels = wise["level1"]["B"]
    assert all(float(jnp.abs(kernels[0] - kernels[i]).max()) > 0.1 for i in range(1, 4))


def test_the_parameter_tree_does_not_depend_on_how_it_is_computed() -> None:
    images = jnp.zeros((1, 8, 8, 1))
    trees = [
        mgnet_jax.create(SPECS[1], 3, **options).init(jax.random.key(0), images)
        for options in ({}, {"form": "direct"}, {"unroll": 1}, {"remat": True},
                        {"dtype": "bfloat16"})
    ]  # fmt: skip
    for tree in trees[1:]:
        chex.assert_trees_all_equal(trees[0], tree)


def test_bfloat16_computes_in_it_and_keeps_float32(spec: str, dual: Any) -> None:
    images, variables, outcomes = dual
    half = outcome(mgnet_jax.create(spec, 3, dtype="bfloat16"), images, variables, True)
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    difference = largest_difference(half["logits"], outcomes[True]["logits"])
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("size", [(32, 32, 3), (28, 28, 1), (33, 47, 3)])
@pytest.mark.parametrize("name", ["MgNet[1,2,3,1]-[(4,2),(4,6),(8,8),(2,3)]-B^l", *SPECS])
def test_logits_have_their_shape(name: str, size: tuple[int, ...], stem: str) -> None:
    model = mgnet_jax.create(name, 7, stem=stem)
    images = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    chex.assert_shape(logits, (2, 7))
    parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert parameters == sum(part.parameters for part in model.count_parts(size))


SHAPES = {"CIFAR10": ((32, 32, 3), 10), "CIFAR100": ((32, 32, 3), 100),
          "ImageNet": ((224, 224, 3), 1000)}  # fmt: skip
PAPER = [
    ("CIFAR10", "MgNet[2,2,2,2]-256-B^l", 8278794),
    ("CIFAR100", "MgNet[2,2,2,2]-256-B^l", 8301924),
    ("ImageNet", "MgNet[3,4,6,3]-[128,256,512,1024]-B^{l,i}", 71270504),
    ("CIFAR100", "MgNet[2,2,2,2]-[256]-B^l", 8301924),
    ("CIFAR100", "MgNet[2,2,2,2]-[512]-B^l", 33118820),
    ("CIFAR100", "MgNet[2,2,2,2]-[768]-B^l", 74450788),
    ("CIFAR100", "MgNet[2,2,2,2]-[1024]-B^l", 132297828),
    ("CIFAR100", "MgNet[2,2,2,2]-[32,64,128,256]-B^l", 2373124),
    ("CIFAR100", "MgNet[2,2,2,2]-[64,128,256,512]-B^l", 9427876),
    ("CIFAR100", "MgNet[2,2,2,2]-[128,256,512,1024]-B^l", 37582564),
    ("CIFAR100", "MgNet[2,2,2,2]-[256,512,1024,2048]-B^l", 150072676),
    ("ImageNet", "MgNet[2,2,2,2]-[64,128,256,512]-B^l", 9897256),
    ("ImageNet", "MgNet[2,2,2,2]-[128,256,512,1024]-B^l", 38520424),
    ("CIFAR100", "MgNet[4,2,2,2]-[256]-B^l", 8303972),
    ("CIFAR100", "MgNet[8,2,2,2]-[256]-B^l", 8308068),
    ("CIFAR100", "MgNet[16,2,2,2]-[256]-B^l", 8316260),
    ("CIFAR100", "MgNet[32,2,2,2]-[256]-B^l", 8332644),
    ("CIFAR100", "MgNet[4,2,2,2]-[512]-B^l", 33122916),
    ("CIFAR100", "MgNet[8,2,2,2]-[512]-B^l", 33131108),
    ("CIFAR100", "MgNet[16,2,2,2]-[512]-B^l", 33147492),
    ("CIFAR100", "MgNet[8,2,2,2]-[1024]-B^l", 132322404),
    ("CIFAR100", "MgNet[2,4,2,2]-[256]-B^l", 8303972),
    ("CIFAR100", "MgNet[2,8,2,2]-[256]-B^l", 8308068),
    ("CIFAR100", "MgNet[2,16,2,2]-[256]-B^l", 8316260),
    ("CIFAR100", "MgNet[2,2,4,2]-[256]-B^l", 8303972),
    ("CIFAR100", "MgNet[2,2,8,2]-[256]-B^l", 8308068),
    ("CIFAR100", "MgNet[2,2,16,2]-[256]-B^l", 8316260),
    ("CIFAR100", "MgNet[2,2,2,4]-[256]-B^l", 8303972),
    ("CIFAR100", "MgNet[2,2,2,8]-[256]-B^l", 8308068),
    ("CIFAR100", "MgNet[2,2,2,16]-[256]-B^l", 8316260),
    ("ImageNet", "MgNet[2,2,4,2]-[64,128,256,512]-B^l", 9899304),
    ("ImageNet", "MgNet[2,2,8,2]-[64,128,256,512]-B^l", 9903400),
    ("ImageNet", "MgNet[2,2,16,2]-[64,128,256,512]-B^l", 9911592),
    ("CIFAR100", "MgNet[2,2,2,2]-[256]-B^{l,i}", 10661220),
    ("CIFAR100", "MgNet[4,2,2,2]-[256]-B^{l,i}", 11842916),
    ("CIFAR100", "MgNet[8,2,2,2]-[256]-B^{l,i}", 14206308),
    ("ImageNet", "MgNet[2,2,2,2]-[64,128,256,512]-B^{l,i}", 13030696),
    ("ImageNet", "MgNet[2,2,4,2]-[64,128,256,512]-B^{l,i}", 14212392),
    ("ImageNet", "MgNet[2,2,2,2]-[128,256,512,1024]-B^{l,i}", 51054184),
    ("ImageNet", "MgNet[2,2,4,2]-[128,256,512,1024]-B^l", 38524520),
    ("ImageNet", "MgNet[2,2,4,2]-[128,256,512,1024]-B^{l,i}", 55776872),
]
"""Every different MgNet row of Tables 4-11 with its exact parameter count. Where the paper prints
another number it is rounded, or a misprint (Table 5's 12.5M, Table 11's 14.7M)."""


@pytest.mark.parametrize(("dataset", "name", "parameters"), PAPER)
def test_parameter_counts_of_the_paper(dataset: str, name: str, parameters: int) -> None:
    shape, classes = SHAPES[dataset]
    model = mgnet_jax.create(name, classes, "imagenet" if dataset == "ImageNet" else "cifar")
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == parameters
    assert sum(part.parameters for part in model.count_parts(shape)) == parameters
    assert str(model.spec) == name


def convolution_macs(jaxpr: Any, times: int = 1) -> Iterator[int]:
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
                yield from convolution_macs(value.jaxpr, inner)
            elif hasattr(value, "eqns"):
                yield from convolution_macs(value, inner)


@pytest.mark.parametrize("form", ["dual", "direct"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_counted_work_is_the_work_done(stem: str, form: str) -> None:
    model = mgnet_jax.create("MgNet[2,1,3]-[(6,4),(5,7),(3,8)]-B^l", 9, stem, form=form)
    images = jax.ShapeDtypeStruct((1, 33, 40, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(model.apply)(variables, images)
    parts = model.count_parts((33, 40, 3))
    # the trace holds the last A too, whose result nobody reads
    unread = 9 * 3 * 8 * np.prod(parts[-2].output[:2])
    counted = sum(part.macs for part in parts)
    assert sum(convolution_macs(jaxpr.jaxpr)) == counted + unread


def test_work_of_the_papers_networks() -> None:
    def gmac(name: str, classes: int, stem: str, form: str, size: int) -> float:
        model = mgnet_jax.create(name, classes, stem, form=form)
        return round(sum(p.macs for p in model.count_parts((size, size, 3))) / 1e9, 2)

    cifar = ("MgNet[2,2,2,2]-256-B^l", 100, "cifar")
    imagenet = ("MgNet[2,2,2,2]-[64,128,256,512]-B^l", 1000, "imagenet")
    assert [gmac(*cifar, form, 32) for form in ("direct", "dual")] == [4.60, 3.60]
    assert [gmac(*imagenet, form, 224) for form in ("direct", "dual")] == [3.01, 2.20]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unrol": 2}, "unknown option unrol=2; did you mean 'unroll'"),
        ({"form": "duel"}, "form='duel' is not one of dual, direct"),
        ({"stem": "mnist"}, "stem='mnist' is not one of cifar, imagenet"),
        ({"dtype": "float16"}, "dtype='float16' is not one of float32"),
        ({"unroll": 0}, "unroll=0 must be a whole number >= 1"),
        ({"num_classes": 2.0}, "num_classes=2.0 must be a whole number >= 1"),
        ({"remat": "yes"}, "remat='yes' must be True or False"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match="^" + words.replace("(", "\\(")):
        mgnet_jax.create(SPECS[0], **{"num_classes": 3, **options})


def test_wrong_images_are_named() -> None:
    model = mgnet_jax.create(SPECS[0], 3)
    with pytest.raises(ModelError, match=r"images .*\(N, height, width, channels\).*\(8, 8, 1\)"):
        model.init(jax.random.key(0), jnp.zeros((8, 8, 1)))
    with pytest.raises(ModelError, match="jax_enable_x64"):
        mgnet_jax.create(SPECS[0], 3, dtype="float64").init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 1))
        )
