"""A network here and one in PyTorch with the same numbers: what both compute, and how it differs.

Everything is float64, with the same images, parameters and running statistics, all of them away
from their defaults, drawn by PyTorch. In training, dropout takes the same mask on both sides: one
that its shape and probability decide.
"""

import dataclasses
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen
from flax.traverse_util import flatten_dict, unflatten_dict
from torch import nn

from mgnet_jax.models import Network, create

BAR = 1e-9
"""The largest relative difference that the tests allow."""

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""XLA's options for small networks, which otherwise take much longer to compile than to run."""
if jax.__version_info__ < (0, 11):  # later ones do not have it
    QUICK["xla_cpu_use_fusion_emitters"] = False

Place = tuple[str, int | None]
Leaves = dict[str, np.ndarray]

LEAVES = {
    nn.Conv2d: {"weight": "kernel", "bias": "bias"},
    nn.Linear: {"weight": "kernel", "bias": "bias"},
    nn.BatchNorm2d: {
        "weight": "scale",
        "bias": "bias",
        "running_mean": "mean",
        "running_var": "var",
    },
}
"""What Flax's tree calls the arrays of a PyTorch module."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A network to compare.

    Attributes:
      name: as `create` takes it.
      make: makes the network in PyTorch, for a number of classes.
      image: height and width of the images, which are RGB.
      batch: images.
      stem, options: for `create`.
      place: where the arrays of a PyTorch module stand in Flax's tree, and in which entry of a
        stack, from the module's name.
      vanishing: gradients that are zero but for rounding, and others to take them relative to.
      classes: of the network.
    """

    name: str
    make: Callable[[int], nn.Module]
    image: tuple[int, int] = (12, 10)
    batch: int = 4
    stem: str = "cifar"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    place: Callable[[str], Place] | None = None
    vanishing: dict[str, str] = dataclasses.field(default_factory=dict)
    classes: int = 5

    def __str__(self) -> str:
        words = [self.stem, "x".join(map(str, self.image))]
        words += [f"{key}={value}" for key, value in self.options.items()]
        return f"{self.name} ({', '.join(words)})"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Largest relative differences, of each array relative to its largest entry.

    A network without batch norm has no statistics.
    """

    evaluation: float
    logits: float
    gradients: float
    statistics: float | None
    worst: str
    """The parameter or statistic that differs most."""

    def __str__(self) -> str:
        statistics = "none" if self.statistics is None else f"{self.statistics:.1e}"
        return (
            f"evaluation {self.evaluation:.1e}, logits {self.logits:.1e}, "
            f"gradients {self.gradients:.1e}, statistics {statistics}; most in {self.worst}"
        )

    def within(self, bar: float) -> bool:
        """Whether all are at most `bar`; a NaN is not."""
        values = (self.evaluation, self.logits, self.gradients, self.statistics or 0.0)
        return bool(np.max(values) <= bar)


def compare(case: Case, disturb: Callable[[nn.Module], None] | None = None) -> Difference:
    """Runs both, in evaluation and in training.

    The scalar that is differentiated is the sum of the logits times fixed random numbers.

    Args:
      case: the network.
      disturb: changes PyTorch's network after ours has its numbers.
    """
    generator = torch.Generator().manual_seed(0)
    reference = _draw(case.make, case.classes, generator)
    shape = (case.batch, 3, *case.image)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn((case.batch, case.classes), generator=generator, dtype=torch.float64)
    with jax.enable_x64(True):
        model = create(case.name, case.classes, case.stem, dtype="float64", **case.options)
        given = (jnp.asarray(images.permute(0, 2, 3, 1).numpy()), jnp.asarray(weights.numpy()))
        tree = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), given[0]), sep="/")
        place = case.place or by_name
        before = _leaves(reference, place, tree, "")
        assert set(before) == set(tree)
        for name, value in before.items():
            assert value.shape == tree[name].shape, name
            assert value.dtype == tree[name].dtype == np.float64, name
        variables = unflatten_dict({k: jnp.asarray(v) for k, v in before.items()}, sep="/")
        del before
        ours = _ours(model, variables, *given)
        del variables
    if disturb:
        disturb(reference)
    expected = _theirs(reference, images, weights)
    gradients = _leaves(reference, place, tree, "params", grad=True)
    statistics = _leaves(reference, place, tree, "batch_stats")
    expected |= gradients | statistics
    beside = case.vanishing | _biases_before_norms(tree)
    found = {name: _relative(ours[name], expected, name, beside) for name in tree}
    result = Difference(
        evaluation=_relative(ours["evaluation"], expected, "evaluation", {}),
        logits=_relative(ours["logits"], expected, "logits", {}),
        gradients=float(np.max([found[name] for name in gradients])),
        statistics=float(np.max([found[name] for name in statistics])) if statistics else None,
        worst=max(found, key=lambda name: np.nan_to_num(found[name], nan=np.inf)),
    )
    del reference, ours, gradients, statistics, expected
    gc.collect()
    return result


def by_name(name: str) -> Place:
    """The place of a module whose name is the place, an index in a list apart."""
    parts = name.split(".")
    index = [int(part) for part in parts if part.isdigit()]
    return "/".join(part for part in parts if not part.isdigit()), index[0] if index else None


def mask(shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Dropout's factors for an array (N, C, ...)."""
    return (np.random.default_rng(0).random(shape) >= rate) / (1 - rate)


def _draw(make: Callable[[int], nn.Module], classes: int, generator: torch.Generator) -> nn.Module:
    """The network in float64, with its numbers drawn anew."""
    with torch.device("meta"):
        network = make(classes)
    network = network.double().to_empty(device="cpu")

    def normal(x: torch.Tensor, mean: float, deviation: float) -> None:
        x.normal_(mean, deviation, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert (module.momentum, module.eps) == (0.1, 1e-5)
                normal(module.bias, 0.0, 0.3)
                normal(module.running_mean, 0.0, 0.3)
                for x in (module.weight, module.running_var):
                    x.uniform_(0.5, 1.5, generator=generator)
                module.num_batches_tracked.zero_()
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                normal(module.weight, 0.0, (2 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    normal(module.bias, 0.0, 0.3)
            elif isinstance(module, nn.Dropout):
                module.register_forward_hook(_same_mask)
            else:
                assert not module._parameters, module
    return network


def _same_mask(module: nn.Dropout, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    if not module.training:
        return output
    return inputs[0] * torch.from_numpy(mask(tuple(inputs[0].shape), module.p))


@contextmanager
def _masks() -> Iterator[None]:
    """Flax's dropout with `mask`, on arrays (N, ..., C)."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if not isinstance(module, linen.Dropout) or module.deterministic:
            return call(*args, **kwargs)
        (x,) = args
        factors = mask((x.shape[0], x.shape[-1], *x.shape[1:-1]), module.rate)
        return x * jnp.asarray(np.moveaxis(factors, 1, -1))

    with linen.intercept_methods(intercept):
        yield


def _ours(model: Network, variables: Any, images: Any, weights: Any) -> Leaves:
    """Logits, gradients and new statistics, of one compiled program."""

    def run(variables: Any, images: Any, weights: Any) -> Any:
        params = variables["params"]
        rest = {key: value for key, value in variables.items() if key != "params"}

        def loss(params: Any) -> Any:
            logits, new = model.apply(
                {"params": params, **rest},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},  # asked for, and not used: see `_masks`
            )
            return jnp.sum(logits * weights), (logits, new)

        gradients, (logits, new) = jax.grad(loss, has_aux=True)(params)
        evaluation = model.apply(variables, images, train=False)
        return {"evaluation": evaluation, "logits": logits, "params": gradients, **new}

    small = sum(x.size for x in jax.tree.leaves(variables)) < 1e6
    options = QUICK if small else None
    with _masks():
        out = jax.jit(run, compiler_options=options)(variables, images, weights)
    return {name: np.asarray(value) for name, value in flatten_dict(out, sep="/").items()}


def _theirs(network: nn.Module, images: torch.Tensor, weights: torch.Tensor) -> Leaves:
    """Logits; gradients and statistics stay in the network."""
    with torch.no_grad():
        evaluation = network.eval()(images)
    logits = network.train()(images)
    (logits * weights).sum().backward()
    return {"evaluation": evaluation.numpy(), "logits": logits.detach().numpy()}


def _leaves(
    network: nn.Module,
    place: Callable[[str], Place],
    tree: dict[str, Any],
    collection: str,
    grad: bool = False,
) -> Leaves:
    """PyTorch's parameters (or their gradients) and statistics by the names of Flax's tree."""
    found: dict[str, dict[int | None, np.ndarray]] = {}
    for module_name, module in network.named_modules():
        for attribute, leaf in LEAVES.get(type(module), {}).items():
            x = getattr(module, attribute)
            group = "batch_stats" if leaf in ("mean", "var") else "params"
            if x is None or not group.startswith(collection):
                continue
            path, index = place(module_name)
            name = f"{group}/{path}/{leaf}"
            if name not in tree:  # the place is the kernel's own, and a bias stands beside it
                folder = f"{group}/{path}".rpartition("/")[0]
                name = f"{folder}/bias" if leaf == "bias" else f"{group}/{path}"
            assert name in tree, f"{module_name}.{attribute} has no place: {name}"
            x = (x.grad if grad else x).detach().numpy()
            if attribute == "weight" and x.ndim > 1:
                x = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
            entries = found.setdefault(name, {})
            assert index not in entries, f"{module_name}.{attribute}: {name} is taken"
            entries[index] = x
    return {name: _stacked(entries) for name, entries in found.items()}


def _stacked(entries: dict[int | None, np.ndarray]) -> np.ndarray:
    if None in entries:
        (x,) = entries.values()
        return x.copy()
    assert sorted(entries) == list(range(len(entries)))
    return np.stack([entries[i] for i in range(len(entries))])


def _biases_before_norms(tree: dict[str, Any]) -> dict[str, str]:
    """Batch norm takes away a bias just before it: its gradient is rounding, K's is not."""
    folders = [name.removesuffix("/bn/scale") for name in tree if name.endswith("/bn/scale")]
    return {f"{f}/bias": f"{f}/kernel" for f in folders if f"{f}/bias" in tree}


def _relative(ours: np.ndarray, theirs: Leaves, name: str, beside: dict[str, str]) -> float:
    """The largest difference relative to the largest entry, of this array or of one beside it."""
    expected = theirs[name]
    assert ours.shape == expected.shape and ours.dtype == expected.dtype == np.float64, name
    difference = np.abs(ours - expected).max()
    scale = np.abs(theirs[beside.get(name, name)]).max()
    return float(difference / scale) if scale > 0 else float(difference)
