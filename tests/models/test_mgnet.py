"""MgNet against the paper: Algorithm 2 written out, Theorem 4.1, the printed tables."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import images_and_variables, largest_difference, outcome

import mgnet_jax
from mgnet_jax.models import ModelError, layers, parse
from mgnet_jax.models.convolution import conv

SPECS = ["MgNet[2,3]-[6]-B^l", "MgNet[3,1]-[(6,4),(5,7)]-B^{l,i}"]


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

    relu, K = jax.nn.relu, conv
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
    for options in ({"unroll": 100}, {"unroll": 2}, {"remat": "norms"}, {"remat": "steps"}):
        other = outcome(mgnet_jax.create(spec, 3, **options), images, variables, train)
        assert largest_difference(outcomes[train]["logits"], other["logits"]) <= 1e-6
        assert largest_difference(outcomes[train], other) <= 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("remat", "most"), [("none", 4), ("norms", 2), ("steps", 1)])
def test_what_a_step_keeps(remat: str, most: int, dtype: str) -> None:
    """Arrays of r's size that the loop over the steps stacks, read off the traced program."""
    nu, n, size, c = 7, 4, 16, 8
    model = mgnet_jax.create(f"MgNet[{nu}]-[{c}]-B^l", 3, remat=remat, dtype=dtype)
    images = jnp.zeros((n, size, size, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(params: Any, stats: Any) -> Any:
        variables = {"params": params, "batch_stats": stats}
        logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits.sum()

    program = jax.make_jaxpr(jax.grad(loss))(variables["params"], variables["batch_stats"])
    forward, backward = (e for e in program.jaxpr.eqns if e.primitive.name == "scan")
    kept = {*forward.outvars} & {v for v in backward.invars if not hasattr(v, "val")}
    assert all(v.aval.shape[0] == nu for v in kept if v.aval.ndim > 1)
    large = [v for v in kept if v.aval.ndim > 2]
    assert sum(v.aval.size * v.aval.dtype.itemsize for v in large) == (
        most * nu * n * size * size * c * jnp.dtype(dtype).itemsize
    )
    assert all(v.aval.shape == (nu, c) for v in kept if v not in large)
    # squares are of the moments alone, convolutions forward of the step
    again = str(backward.params["jaxpr"])
    assert (" square " in again, " conv_y[" in again) == (remat == "steps", remat == "steps")


@pytest.mark.parametrize("remat", ["norms", "steps"])
def test_norms_outside_of_the_loops_keep_no_more(remat: str) -> None:
    def kept(remat: str) -> list[Any]:
        compute = layers.Compute(remat=remat)
        module, images = layers.Stem("cifar", 4, compute=compute), jnp.ones((2, 8, 8, 3))
        variables = module.init(jax.random.key(0), images, True)

        def stem(params: Any) -> Any:
            new = {**variables, "params": params}
            return module.apply(new, images, True, mutable=["batch_stats"])[0]

        _, transposed = jax.vjp(stem, variables["params"])
        return [(x.shape, x.dtype) for x in jax.tree.leaves(transposed)]

    assert kept(remat) == kept("none")


def test_remat_needs_less_memory() -> None:
    def working_memory(remat: str) -> int:
        model = mgnet_jax.create("MgNet[8]-[8]-B^l", 3, remat=remat)
        images = jnp.zeros((8, 16, 16, 1))
        variables = jax.eval_shape(model.init, jax.random.key(0), images)

        def loss(variables: Any) -> Any:
            logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return logits.sum()

        compiled = jax.jit(jax.grad(loss)).lower(variables).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    needed = {remat: working_memory(remat) for remat in ("none", "norms", "steps")}
    assert needed["steps"] < 0.8 * needed["norms"] < 0.8 * 0.8 * needed["none"], needed


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
        for options in (
            {},
            {"form": "direct"},
            {"unroll": 1},
            {"remat": "steps"},
            {"dtype": "bfloat16"},
        )
    ]
    for tree in trees[1:]:
        chex.assert_trees_all_equal(trees[0], tree)


def test_bfloat16_computes_in_it_and_keeps_float32(spec: str, dual: Any) -> None:
    images, variables, outcomes = dual
    half = outcome(mgnet_jax.create(spec, 3, dtype="bfloat16"), images, variables, True)
    assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    difference = largest_difference(half["logits"], outcomes[True]["logits"])
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize("stem", ["cifar", "imagenet", "half"])
@pytest.mark.parametrize("size", [(32, 32, 3), (28, 28, 1), (33, 47, 3)])
@pytest.mark.parametrize("name", ["MgNet[1,2,3,1]-[(4,2),(4,6),(8,8),(2,3)]-B^l", *SPECS])
def test_logits_have_their_shape(name: str, size: tuple[int, ...], stem: str) -> None:
    model = mgnet_jax.create(name, 7, stem=stem)
    images = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    chex.assert_shape(logits, (2, 7))
    parameters = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert parameters == mgnet_jax.count(model, size).parameters


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unrol": 2}, "unknown option unrol=2; did you mean 'unroll'"),
        ({"form": "duel"}, "form='duel' is not one of auto, dual, direct"),
        ({"stem": "mnist"}, "stem='mnist' is not one of cifar, imagenet, half"),
        ({"dtype": "float16"}, "dtype='float16' is not one of float32"),
        ({"unroll": 0}, "unroll=0 must be a whole number >= 1"),
        ({"num_classes": 2.0}, "num_classes=2.0 must be a whole number >= 1"),
        ({"remat": "yes"}, "remat='yes' is not one of none, norms, steps"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match="^" + words.replace("(", "\\(")):
        mgnet_jax.create(SPECS[0], **{"num_classes": 3, **options})
