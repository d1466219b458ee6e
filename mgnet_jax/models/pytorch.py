"""What PyTorch calls the arrays of our networks: those of torchvision, and the published MgNet's.

A state dict of PyTorch and a tree of variables here hold the same numbers. Kernels are (out, in,
height, width) there and (height, width, in, out) here; of a linear layer's matrix the two are
exchanged; the arrays of a grid's steps are stacked here. The published MgNet is the script of its
authors: `layer<l>.<i>.A`, `.S` (B), `.bn1` and `.bn2`, where an array that steps share stands under
the name of each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mgnet_jax.models.alexnet import AlexNetSpec
from mgnet_jax.models.deep_resnet import IMAGENET_BLOCKS, DeepSpec
from mgnet_jax.models.mgnet import MgNetSpec
from mgnet_jax.models.network import Network
from mgnet_jax.models.notation import ModelError, Spec
from mgnet_jax.models.resnet import DEPTHS, ResNetSpec
from mgnet_jax.models.vgg import STAGES, VGG19Spec

Arrays = Mapping[str, np.ndarray]

PUBLISHED, TORCHVISION = "published", "torchvision"
"""Where a layout is from: the script of MgNet's authors, or torchvision.models."""
NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}


class Place(NamedTuple):
    """Where an array of PyTorch stands here: its path, and which entry of a stack it is."""

    path: str
    entry: int | None = None


def layout_of(spec: Spec, stem: str) -> str:
    """Where the names of a network are from: `PUBLISHED`, `TORCHVISION`, or "" without any."""
    if isinstance(spec, MgNetSpec):
        return PUBLISHED if spec.published and stem != "half" else ""
    if stem != "imagenet":
        return TORCHVISION if spec == AlexNetSpec("torchvision") else ""
    plain = isinstance(spec, ResNetSpec) and _torchvision_resnet(spec)
    deep = isinstance(spec, DeepSpec) and spec.depth in (50, 101, 152)
    bottlenecks = deep and not spec.pre_act and not spec.dropout  # type: ignore[attr-defined]
    known = plain or bottlenecks or spec == AlexNetSpec("torchvision")
    return TORCHVISION if known or isinstance(spec, VGG19Spec) else ""


def _torchvision_resnet(spec: ResNetSpec) -> bool:
    """Whether it is ResNet18 or 34, where nothing is shared."""
    return spec.nu in DEPTHS.values() and spec == ResNetSpec(spec.nu, (64, 128, 256, 512))


def names(spec: Spec, stem: str) -> dict[str, Place]:
    """Where each array of PyTorch's state dict stands, by its name there.

    Raises:
      ModelError: neither torchvision nor the published script has such a network.
    """
    if not layout_of(spec, stem):
        raise ModelError(
            f"{spec} with the stem {stem!r} has no names in PyTorch: torchvision and the published "
            f"script have MgNets with B^l or B^{{l,i}}, not with stem='half', and with "
            f"stem='imagenet' AlexNet@torchvision, VGG19, ResNet18, 34, 50, 101, 152 and WRN-50-2"
        )
    makers: dict[type[Spec], Callable[..., Iterator[tuple[str, Place]]]] = {
        MgNetSpec: _mgnet,
        ResNetSpec: _resnet,
        DeepSpec: _bottlenecks,
        AlexNetSpec: _alexnet,
        VGG19Spec: _vgg19,
    }
    return dict(makers[type(spec)](spec))


def _norm(name: str, place: str, index: int | None = None) -> Iterator[tuple[str, Place]]:
    for attribute, path in NORM.items():
        yield f"{name}.{attribute}", Place(path.format(place), index)


def _layer(name: str, place: str) -> Iterator[tuple[str, Place]]:
    """A kernel or matrix with its bias."""
    yield f"{name}.weight", Place(f"params/{place}/kernel")
    yield f"{name}.bias", Place(f"params/{place}/bias")


def _stem() -> Iterator[tuple[str, Place]]:
    yield "conv1.weight", Place("params/stem/conv/kernel")
    yield from _norm("bn1", "stem/conv/bn")
    yield from _layer("fc", "head/linear")


def _mgnet(spec: MgNetSpec) -> Iterator[tuple[str, Place]]:
    yield from _stem()
    for n, nu in enumerate(spec.nu, 1):
        level, layer = f"level{n}", f"layer{n - 1}"
        if n > 1:
            yield f"{layer}.0.A_old.weight", Place(f"params/level{n - 1}/A")
            yield f"{layer}.0.A.weight", Place(f"params/{level}/A")
            for kernel, bn in (("Pi", "bn1"), ("R", "bn2")):
                place = f"restrict{n - 1}/{kernel}"
                yield f"{layer}.0.{kernel}.weight", Place(f"params/{place}/kernel")
                yield from _norm(f"{layer}.0.{bn}", f"{place}/bn")
        for i in range(nu):
            step = f"{layer}.{i + (n > 1)}"
            yield f"{step}.A.weight", Place(f"params/{level}/A")
            yield f"{step}.S.weight", Place(f"params/{level}/B", None if spec.share_B else i)
            yield from _norm(f"{step}.bn1", f"{level}/step/bn_r", i)
            yield from _norm(f"{step}.bn2", f"{level}/step/bn_B", i)


def _resnet(spec: ResNetSpec) -> Iterator[tuple[str, Place]]:
    yield from _stem()
    for n, nu in enumerate(spec.nu, 1):
        level, halves = f"level{n}", n > 1
        for i in range(nu):
            block = f"layer{n}.{i}"
            yield f"{block}.conv2.weight", Place(f"params/{level}/A", i)
            if halves and not i:
                enter = f"{level}/enter"
                yield f"{block}.conv1.weight", Place(f"params/{enter}/B")
                yield f"{block}.downsample.0.weight", Place(f"params/{enter}/R")
                yield from _norm(f"{block}.bn1", f"{enter}/bn_B")
                yield from _norm(f"{block}.bn2", f"{enter}/bn_A")
                yield from _norm(f"{block}.downsample.1", f"{enter}/bn_R")
            else:
                yield f"{block}.conv1.weight", Place(f"params/{level}/B", i - halves)
                yield from _norm(f"{block}.bn1", f"{level}/step/bn_B", i - halves)
                yield from _norm(f"{block}.bn2", f"{level}/step/bn_A", i - halves)


def _bottlenecks(spec: DeepSpec) -> Iterator[tuple[str, Place]]:
    yield from _stem()
    for n, count in enumerate(IMAGENET_BLOCKS[spec.depth], 1):
        for i in range(count):
            block = f"layer{n}.{i}"
            place, index = (f"level{n}/step", i - 1) if i else (f"level{n}/first", None)
            for k in (1, 2, 3):
                yield f"{block}.conv{k}.weight", Place(f"params/{place}/kernel{k - 1}", index)
                yield from _norm(f"{block}.bn{k}", f"{place}/bn{k - 1}", index)
            if not i:
                yield f"{block}.downsample.0.weight", Place(f"params/{place}/project")
                yield from _norm(f"{block}.downsample.1", f"{place}/bn_project")


def _alexnet(spec: AlexNetSpec) -> Iterator[tuple[str, Place]]:
    for i, module in enumerate((0, 3, 6, 8, 10), 1):
        yield from _layer(f"features.{module}", f"conv{i}")
    for module, place in ((1, "hidden1"), (4, "hidden2"), (6, "linear")):
        yield from _layer(f"classifier.{module}", f"head/{place}")


def _vgg19(spec: VGG19Spec) -> Iterator[tuple[str, Place]]:
    module = 0
    for stage, (count, _) in enumerate(STAGES, 1):
        for i in range(1, count + 1):
            yield from _layer(f"features.{module}", f"conv{stage}_{i}")
            module += 2
        module += 1  # its pool
    for module, place in ((0, "hidden1"), (3, "hidden2"), (6, "linear")):
        yield from _layer(f"classifier.{module}", f"head/{place}")


def from_pytorch(state: Arrays, spec: Spec, stem: str) -> dict[str, np.ndarray]:
    """The variables {"params/level1/A": ...} that hold the numbers of a state dict.

    Raises:
      ModelError: arrays are missing or too many, or what the network shares differs.
    """
    known = names(spec, stem)
    left = {n for n in state if not n.endswith("num_batches_tracked")} ^ {*known}
    if left:
        missing, more = sorted(left & {*known}), sorted(left - {*known})
        words = [f"missing: {', '.join(missing[:4])}"] if missing else []
        words += [f"not of {spec}: {', '.join(more[:4])}"] if more else []
        raise ModelError(f"the arrays are not those of {spec}: {'; '.join(words)}")
    entries: dict[str, dict[int | None, np.ndarray]] = {}
    for name, place in known.items():
        x, there = _turned(np.asarray(state[name])), entries.setdefault(place.path, {})
        if place.entry in there and not np.array_equal(there[place.entry], x):
            raise ModelError(f"{name} is shared in {spec}, and differs from the array it is")
        there[place.entry] = x
    return {
        path: np.stack([x[i] for i in range(len(x))]) if None not in x else x[None]
        for path, x in entries.items()
    }


def to_pytorch(variables: Arrays, spec: Spec, stem: str) -> dict[str, np.ndarray]:
    """The state dict that holds the numbers of variables; `from_pytorch` is its inverse."""
    state = {}
    for name, place in names(spec, stem).items():
        x = variables[place.path]
        state[name] = np.ascontiguousarray(
            _turned(x if place.entry is None else x[place.entry], True)
        )
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def _turned(x: np.ndarray, back: bool = False) -> np.ndarray:
    """A kernel or matrix with its axes as they are here, or back as PyTorch has them."""
    if x.ndim == 4:
        return x.transpose((3, 2, 0, 1) if back else (2, 3, 1, 0))
    return x.T if x.ndim == 2 else x


def torch_network(model: Network) -> str:
    """How a person makes the network in PyTorch, as Python text; "" for the published MgNet."""
    spec, classes = model.spec, model.num_classes
    if layout_of(spec, model.stem) != TORCHVISION:
        return ""
    name = {AlexNetSpec: "alexnet", VGG19Spec: "vgg19"}.get(type(spec))
    if isinstance(spec, ResNetSpec):
        name = f"resnet{next(d for d, nu in DEPTHS.items() if nu == spec.nu)}"
    elif isinstance(spec, DeepSpec):
        name = f"resnet{spec.depth}" if spec.k == 1 else f"wide_resnet{spec.depth}_{spec.k}"
    return f"torchvision.models.{name}(num_classes={classes})"


def mgnet_arguments(model: Network) -> str:
    """nu, channels and the sharing of B of an MgNet, as arguments in Python."""
    spec = model.spec
    return f"{spec.nu}, {spec.channels}, {spec.share_B}"
