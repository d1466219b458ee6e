"""The networks to compare: those that the tests write, and torchvision's."""

import itertools
import re
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tests.torch_parity import networks
from tests.torch_parity.compare import Case, Place

SHARING = {True: "^l", False: "^{l,i}"}


def torchvision_models() -> ModuleType:
    """The module torchvision.models.

    Where torchvision's compiled operators do not fit PyTorch, it cannot be imported before two of
    them are declared. No network here uses them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision.models
        except RuntimeError:
            for name in ("nms", "qnms"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", schema)
            import torchvision.models
    return torchvision.models


def torchvision_cases() -> list[Case]:
    """The networks that torchvision makes itself."""
    models = torchvision_models()

    def case(
        name: str,
        make: Callable[..., nn.Module],
        place: Callable[[str], Place],
        *image: int,
        batch: int = 4,
        **options: Any,
    ) -> Case:
        return Case(
            name,
            lambda classes: make(weights=None, num_classes=classes),
            image,
            batch,
            stem="imagenet",
            place=place,
            options=options,
        )

    return [
        case("AlexNet@torchvision", models.alexnet, alexnet_place, 224, 224, batch=2),
        case("AlexNet@torchvision", models.alexnet, alexnet_place, 95, 131, batch=2),
        case("VGG19", models.vgg19, vgg19_place, 64, 96, batch=2),
        case("ResNet18", models.resnet18, resnet_place, 64, 64),
        case("ResNet18", models.resnet18, resnet_place, 33, 47, unroll=1),
        case("ResNet34", models.resnet34, resnet_place, 64, 64, batch=2, unroll=1),
        case("ResNet50", models.resnet50, bottleneck_place, 40, 56, unroll=1),
        case("WRN-50-2", models.wide_resnet50_2, bottleneck_place, 64, 64, batch=2, unroll=1),
    ]


def alexnet_place(name: str) -> Place:
    """Of torchvision's AlexNet."""
    kind, _, index = name.partition(".")
    convs = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5"}
    hidden = {"1": "head/hidden1", "4": "head/hidden2", "6": "head/linear"}
    return (convs if kind == "features" else hidden)[index], None


def vgg19_place(name: str) -> Place:
    """Of torchvision's VGG19 without batch norm, where a stage of n kernels is 2n + 1 modules."""
    kind, _, index = name.partition(".")
    convs, begin = {}, 0
    for stage, count in enumerate((2, 2, 4, 4, 4), 1):
        convs |= {str(begin + 2 * i): f"conv{stage}_{i + 1}" for i in range(count)}
        begin += 2 * count + 1
    hidden = {"0": "head/hidden1", "3": "head/hidden2", "6": "head/linear"}
    return (convs if kind == "features" else hidden)[index], None


ENDS = {"conv1": "stem/conv", "bn1": "stem/conv/bn", "fc": "head/linear"}


def resnet_place(name: str) -> Place:
    """Of torchvision's ResNet18 and 34: conv1 of a block is B, conv2 is A, downsample is R."""
    if name in ENDS:
        return ENDS[name], None
    level, block, part = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name).groups()
    halves = level != "1"
    if part == "conv2":
        return f"level{level}/A", int(block)
    if halves and block == "0":
        entry = {
            "conv1": "B",
            "bn1": "bn_B",
            "bn2": "bn_A",
            "downsample.0": "R",
            "downsample.1": "bn_R",
        }
        return f"level{level}/enter/{entry[part]}", None
    entry = {"conv1": "B", "bn1": "step/bn_B", "bn2": "step/bn_A"}
    return f"level{level}/{entry[part]}", int(block) - halves


def bottleneck_place(name: str) -> Place:
    """Of torchvision's ResNet50 and wide ResNet50."""
    if name in ENDS:
        return ENDS[name], None
    level, block, part = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", name).groups()
    entry = {f"conv{i}": f"kernel{i - 1}" for i in (1, 2, 3)}
    entry |= {f"bn{i}": f"bn{i - 1}" for i in (1, 2, 3)}
    entry |= {"downsample.0": "project", "downsample.1": "bn_project"}
    if block == "0":
        return f"level{level}/first/{entry[part]}", None
    return f"level{level}/step/{entry[part]}", int(block) - 1


def torch_nn_cases() -> list[Case]:
    """The networks that `networks` writes."""
    return [*_mgnets(), *_data_features(), *_resnets(), *_deep_resnets(), *_others()]


def _grids(nu: tuple[int, ...], channels: tuple[object, ...]) -> str:
    return f"{list(nu)}-[{','.join(map(str, channels))}]".replace(" ", "")


def _mgnets() -> list[Case]:
    def case(
        nu: tuple[int, ...], channels: tuple[tuple[int, int], ...], share_B: bool, **given: Any
    ) -> Case:
        name = f"MgNet{_grids(nu, channels)}-B{SHARING[share_B]}"
        stem = given.get("stem", "cifar")
        return Case(name, partial(networks.MgNet, nu, channels, share_B, stem), **given)

    uneven = ((6, 4), (5, 7))
    deep = ((8, 8), (8, 6), (6, 9))
    odd = {"stem": "imagenet", "image": (33, 47)}
    unread = {"params/level2/A": "params/level2/B"}  # f' - A u' = r', and no further step
    return [
        case((1, 3), uneven, True, options={"form": "dual"}),
        case((1, 3), uneven, True, options={"form": "direct", "unroll": 1}),
        case((1, 3), uneven, False, options={"form": "dual", "unroll": 1}),
        case((1, 3), uneven, False, options={"form": "direct", "remat": "steps"}),
        case((3, 1), uneven, False, options={"form": "direct"}, vanishing=unread),
        case((2, 2, 3), deep, True, options={"form": "dual"}, **odd),
        case((2, 2, 3), deep, False, options={"form": "direct"}, **odd),
        case((1, 2), uneven, True, stem="imagenet", image=(1, 6)),
        case((2, 2, 2, 2), ((16, 16),) * 4, True, image=(20, 20), options={"convolution": "xla"}),
    ]


def _data_features() -> list[Case]:
    nu, channels = (2, 2), ((3, 4), (4, 2))

    def case(A: str, B: str, share_B: bool, **given: Any) -> Case:
        name = f"DataFeature({A},{B}){_grids(nu, channels)}-B{SHARING[share_B]}"
        make = partial(
            networks.DataFeature, A, B, nu, channels, share_B, given.get("stem", "cifar")
        )
        return Case(name, make, **given)

    pairs = list(itertools.product(("K", "Ks", "sK", "sKs"), repeat=2))
    cases = [case(A, B, (i + i // 4) % 2 == 0) for i, (A, B) in enumerate(pairs)]
    loop = case("sKs", "sKs", False, options={"unroll": 1})
    return [*cases, loop, case("sKs", "Ks", True, stem="imagenet", image=(33, 47))]


def _resnets() -> list[Case]:
    def case(
        pre_act: bool,
        share_A: bool,
        share_B: bool,
        table3: bool,
        nu: tuple[int, ...] = (2, 1, 3),
        channels: tuple[int, ...] = (4, 6, 5),
        **given: Any,
    ) -> Case:
        name = f"{'pre-act ' if pre_act else ''}ResNet{_grids(nu, channels)}"
        name += f"-A{SHARING[share_A]}-B{SHARING[share_B]}{'@table3' if table3 else ''}"
        make = partial(
            networks.resnet,
            nu,
            channels,
            share_A,
            share_B,
            given.get("stem", "cifar"),
            pre_act=pre_act,
            table3=table3,
        )
        return Case(name, make, **given)

    both = (False, True)
    text = [case(p, A, B, False) for p, A, B in itertools.product(both, repeat=3)]
    table3 = [case(p, A, True, True) for p, A in itertools.product(both, repeat=2)]
    loops = [
        case(
            p, True, True, t, (3, 3), (4, 6), stem="imagenet", image=(33, 47), options={"unroll": 1}
        )
        for p, t in itertools.product(both, repeat=2)
    ]
    deep = case(True, True, False, False, (2, 2, 2, 2), (16, 32, 48, 64), image=(16, 16))
    tiny = case(False, False, False, False, (1, 2), (4, 6), stem="imagenet", image=(5, 9))
    return [*text, *table3, *loops, deep, tiny]


def _deep_resnets() -> list[Case]:
    imagenet = {"stem": "imagenet", "image": (64, 64)}
    small = ((16, 32, 64), 16, 0)
    return [
        Case("pre-act ResNet20", partial(networks.pre_act_bottlenecks, (2, 2, 2), *small, "cifar")),
        Case(
            "pre-act ResNet29",
            partial(networks.pre_act_bottlenecks, (3, 3, 3), *small, "cifar"),
            options={"unroll": 1},
        ),
        Case(
            "pre-act ResNet50",
            partial(
                networks.pre_act_bottlenecks, (3, 4, 6, 3), (64, 128, 256, 512), 64, 1, "imagenet"
            ),
            **imagenet,
            batch=2,
            options={"unroll": 1},
        ),
        Case("WRN-16-1", partial(networks.wide_resnet, 16, 1, 0.0, "cifar")),
        Case("WRN-22-1-dropout0.3", partial(networks.wide_resnet, 22, 1, 0.3, "cifar")),
        Case("WRN-10-2", partial(networks.wide_resnet, 10, 2, 0.0, "imagenet"), **imagenet),
    ]


def _others() -> list[Case]:
    return [
        Case("AlexNet", networks.CifarAlexNet, (32, 32)),
        Case("AlexNet", networks.CifarAlexNet, (67, 95)),
        Case("AlexNet", networks.AlexNet2012, (224, 224), 2, "imagenet"),
        Case("AlexNet", networks.AlexNet2012, (95, 131), 2, "imagenet"),
        Case("VGG19", networks.VGG19BN, (32, 32), 2),
        Case("VGG19", networks.VGG19BN, (37, 66), 2),
    ]
