"""Names of PyTorch's arrays: a network's variables there and back, and found out again."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mgnet_jax.models import ModelError, create, state_dicts
from mgnet_jax.models import pytorch as layouts

NETWORKS = [
    ("MgNet[1,3,2]-[(3,4),(5,2),(4,4)]-B^l", "cifar", 3),
    ("MgNet[2,1,2]-[4]-B^{l,i}", "imagenet", 1),
    ("ResNet18", "imagenet", 3),
    ("ResNet34", "imagenet", 3),
    ("ResNet50", "imagenet", 3),
    ("WRN-50-2", "imagenet", 3),
    ("VGG19", "imagenet", 3),
    ("AlexNet@torchvision", "imagenet", 3),
]


def drawn(name: str, stem: str, channels: int) -> dict[str, np.ndarray]:
    """Variables whose every number is another one, cheaply."""
    model = create(name, 7, stem)
    images = jax.ShapeDtypeStruct((1, 64, 64, channels), np.float32)
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images), sep="/")
    begin, arrays = 0, {}
    for path, x in shapes.items():
        arrays[path] = np.arange(begin, begin + x.size, dtype=np.float32).reshape(x.shape)
        begin += x.size
    return arrays


@pytest.mark.parametrize(("name", "stem", "channels"), NETWORKS)
def test_there_and_back(name: str, stem: str, channels: int) -> None:
    ours, spec = drawn(name, stem, channels), create(name, 7, stem).spec
    state = layouts.to_pytorch(ours, spec, stem)
    assert state_dicts.identify(state) == (spec, stem, 7, channels)
    again = layouts.from_pytorch(
        state_dicts.unwrapped({f"module.{k}": v for k, v in state.items()}), spec, stem
    )
    assert again.keys() == ours.keys()
    for path, x in ours.items():
        np.testing.assert_array_equal(again[path], x)


def test_a_kernel_is_turned_and_a_step_is_an_entry() -> None:
    ours = drawn("MgNet[2,2]-[(3,4)]-B^{l,i}", "cifar", 3)
    state = layouts.to_pytorch(ours, create("MgNet[2,2]-[(3,4)]-B^{l,i}", 7).spec, "cifar")
    assert state["layer1.2.S.weight"].shape == (3, 4, 3, 3)
    assert state["layer1.2.S.weight"][1, 2, 0, 1] == ours["params/level2/B"][1, 0, 1, 2, 1]
    assert state["fc.weight"][5, 1] == ours["params/head/linear/kernel"][1, 5]
    for name in ("layer0.0.A", "layer0.1.A", "layer1.0.A_old"):
        np.testing.assert_array_equal(state[f"{name}.weight"], state["layer0.0.A.weight"])


def test_what_is_shared_must_be_the_same() -> None:
    spec = create("MgNet[2]-[4]-B^l", 7).spec
    state = layouts.to_pytorch(drawn("MgNet[2]-[4]-B^l", "cifar", 3), spec, "cifar")
    state["layer0.1.A.weight"] = state["layer0.1.A.weight"] + 1
    with pytest.raises(ModelError, match=r"layer0\.1\.A\.weight is shared"):
        layouts.from_pytorch(state, spec, "cifar")


def test_missing_and_further_arrays_are_named() -> None:
    spec = create("MgNet[2]-[4]-B^l", 7).spec
    state = layouts.to_pytorch(drawn("MgNet[2]-[4]-B^l", "cifar", 3), spec, "cifar")
    state["other"] = state.pop("fc.bias")
    with pytest.raises(ModelError, match=r"missing: fc\.bias; not of .*: other"):
        layouts.from_pytorch(state, spec, "cifar")
    with pytest.raises(ModelError, match="no network that is known here"):
        state_dicts.identify({"x": np.zeros(3)})


@pytest.mark.parametrize("name", ["ResNet18-A^l-B^l", "pre-act ResNet50", "DataFeature(Ks,K)"])
def test_what_pytorch_has_not_has_no_names(name: str) -> None:
    with pytest.raises(ModelError, match="has no names in PyTorch"):
        layouts.names(create(name, 7, "imagenet").spec, "imagenet")


def test_our_own_stem_has_no_names_in_pytorch() -> None:
    with pytest.raises(ModelError, match="with the stem 'half' has no names in PyTorch"):
        layouts.names(create("MgNet[2]-[4]-B^l", 7, "half").spec, "half")
