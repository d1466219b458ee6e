"""What holds for every family: it computes, it learns, and JAX's and Flax's tools work on it."""

import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from networks import SMALL, images_and_variables, outcome

import mgnet_jax
from mgnet_jax.models import ModelError, parse
from mgnet_jax.models.registry import FAMILIES

KEYS = list(SMALL)


def abstract(model: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images), images


def test_every_family_is_among_them() -> None:
    assert {type(parse(name)) for name in SMALL.values()} == set(FAMILIES)


@pytest.mark.parametrize("key", KEYS)
def test_gradients_and_statistics_reach_everything(key: str) -> None:
    model = mgnet_jax.create(SMALL[key], 3)
    images, variables = images_and_variables(model)
    result = outcome(model, images, variables, True, quick=True)
    chex.assert_tree_all_finite(result)
    chex.assert_shape(result["logits"], (5, 3))
    chex.assert_trees_all_equal_shapes(result["grads"], variables["params"])
    zero = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(result["grads"])
        if not jnp.any(g)
    ]
    unused = mgnet_jax.count(model, images.shape[1:])
    assert zero == (["['level2']['A']"] if any(p.unused for p in unused.parts) else [])
    if "batch_stats" in variables:
        old = variables["batch_stats"]
        chex.assert_trees_all_equal_shapes(result["batch_stats"], old)
        changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), result["batch_stats"], old)
        assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (33, 47, 3), (64, 31, 2)])
@pytest.mark.parametrize("key", [*KEYS, "ResNet50"])
def test_logits_have_their_shape(key: str, size: tuple[int, ...], stem: str) -> None:
    model = mgnet_jax.create(SMALL.get(key, key), 7, stem=stem)
    images = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    chex.assert_shape(logits, (2, 7))


@pytest.mark.parametrize("name", ["AlexNet", "VGG19"])
def test_a_family_with_forms_of_its_own_says_which_stems_it_has(name: str) -> None:
    words = f"stem='half' is not there for {name}, .*: 'cifar' or 'imagenet'"
    with pytest.raises(ModelError, match=words):
        mgnet_jax.create(name, 7, stem="half")


@pytest.mark.parametrize(
    ("key", "stem"),
    [*((key, "cifar") for key in KEYS), ("alexnet", "imagenet"), ("vgg", "imagenet")],
)
def test_jax_and_flax_work_on_it(key: str, stem: str) -> None:
    model = mgnet_jax.create(SMALL[key], 3, stem)
    variables, images = abstract(model, (2, 16, 16, 3))
    assert "head" in nn.tabulate(model, jax.random.key(0))(jnp.zeros(images.shape))
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert hash(again) == hash(model)

    def one(variables: Any, image: Any) -> Any:
        return model.apply(variables, image[None])[0]

    alone = jax.eval_shape(jax.vmap(one, (None, 0)), variables, images)
    assert alone.shape == (2, 3)
    rest = {k: v for k, v in variables.items() if k != "params"}
    checkpointed = jax.checkpoint(lambda p, r, x: model.apply({"params": p, **r}, x))
    for apply in (checkpointed, lambda p, r, x: model.apply({"params": p, **r}, x)):
        gradient = jax.jit(jax.grad(lambda p, r, x, apply=apply: apply(p, r, x).sum()))
        grads = jax.eval_shape(gradient, variables["params"], rest, images)
        chex.assert_trees_all_equal_shapes(grads, variables["params"])


@pytest.mark.parametrize("key", ["mgnet", "pre-act", "wide"])
def test_vmap_over_images_is_the_batch(key: str) -> None:
    model = mgnet_jax.create(SMALL[key], 3)
    images, variables = images_and_variables(model)
    alone = jax.jit(jax.vmap(lambda x: model.apply(variables, x[None])[0]))(images)
    together = jax.jit(model.apply)(variables, images)
    chex.assert_trees_all_close(alone, together, rtol=1e-4, atol=1e-4)


def test_dropout_draws_from_the_key_it_is_given() -> None:
    model = mgnet_jax.create("WRN-10-1-dropout0.5", 3)
    images, variables = images_and_variables(model)

    @jax.jit
    def logits(seed: int) -> jax.Array:
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, True, rngs=rngs, mutable=["batch_stats"])[0]

    chex.assert_trees_all_equal(logits(0), logits(0))
    assert float(jnp.abs(logits(0) - logits(1)).max()) > 1e-3
    with pytest.raises(ModelError, match=r"rngs=\{'dropout': key\}"):
        model.apply(variables, images, True, mutable=["batch_stats"])


def test_depth_costs_time_and_not_code() -> None:
    """ResNet1001's training step has at most 1.5 times the HLO of ResNet101's."""

    def lines(name: str) -> int:
        model = mgnet_jax.create(name, 10)
        variables, images = abstract(model, (2, 32, 32, 3))

        def loss(params: Any, stats: Any, images: Any) -> Any:
            logits, new = model.apply(
                {"params": params, "batch_stats": stats}, images, True, mutable=["batch_stats"]
            )
            return logits.sum(), new

        step = jax.jit(jax.grad(loss, has_aux=True))
        text = step.lower(variables["params"], variables["batch_stats"], images).as_text("hlo")
        return len(text.splitlines())

    assert lines("pre-act ResNet1001") <= 1.5 * lines("pre-act ResNet101")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (jnp.zeros((8, 8, 1)), r"images must be \(N, height, width, channels\), not \(8, 8, 1\)"),
        ([[1.0]], "images must be an array .*, not list; jax.numpy.asarray"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"images are uint8; .*\(images / 255 - mean\) / std"),
        (np.zeros((2, 3, 8, 8), np.float32), r"look like \(N, channels, height, width\)"),
        (np.zeros((2, 0, 8, 3), np.float32), "have no pixels"),
    ],
)
@pytest.mark.parametrize("key", ["mgnet", "vgg"])
def test_wrong_images_are_named(key: str, images: Any, words: str) -> None:
    model = mgnet_jax.create(SMALL[key], 3)
    with pytest.raises(ModelError, match=words):
        model.init(jax.random.key(0), images)


def test_float64_needs_jaxs_flag() -> None:
    with pytest.raises(ModelError, match="jax_enable_x64"):
        mgnet_jax.create("ResNet18", 3, dtype="float64").init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 1))
        )


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (0, 0)])
def test_a_batch_without_a_variance_is_named(batch: int, count: int) -> None:
    """PyTorch raises there too; scoring it is fine."""
    model = mgnet_jax.create("MgNet[1,1]-[2]-B^l", 3)
    images = jnp.zeros((batch, 2, 2, 1))
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
    words = f"at least 2 values a channel .* here are {count}, a batch of {batch}"
    with pytest.raises(ModelError, match=words):
        model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert model.apply(variables, images).shape == (batch, 3)


def test_the_package_lists_what_it_has() -> None:
    assert {"create", "features", "count", "parse"} <= set(dir(mgnet_jax))
