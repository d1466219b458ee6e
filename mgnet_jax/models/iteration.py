"""The iteration on one grid, A u = f under u >= 0: the core of MgNet and of the ResNets here.

A grid owns its kernels A and B; `nn.scan` runs a step that owns only its batch norms. A kernel that
all steps share is a broadcast argument of the scan, one a step is scanned over, and the parameters
of the norms are stacked (nu, c). With s = batch norm and ReLU, d what B makes of the residual:

    state u (Algorithm 2, direct)   d = B(f - A(u))    u <- u + d
    state r (Theorem 4.1, dual)     d = B(r)           u <- u + d    r <- r - A d

MgNet has A = K (a convolution) and B = s K s. A is linear then, so with r = f - A u both lines
are the same function of the same parameters, and the second drops about a quarter of the work: f
is never formed. A pre-act ResNet's block r <- r + A s(B s(r)) is the second line with A negated
and u forgotten; a ResNet's is r <- relu(r + A s(B r)). So a family here says what A and B are
(`Map`), which of them is shared, the state, and how a grid hands over to the next (`Scheme`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from mgnet_jax.models.layers import Array, Compute, Conv

Norm = Callable[[str], Callable[..., Array]]

FORMS = ("K", "Ks", "sK", "sKs")
"""How a kernel K acts, right to left: s is batch norm and ReLU before it, after it, or both."""


@dataclasses.dataclass(frozen=True)
class Map:
    """A or B: a form out of `FORMS`; with `norm`, batch norm follows K even where no s does."""

    form: str
    norm: bool = False

    @property
    def linear(self) -> bool:
        """Whether it is a convolution and nothing else."""
        return self == Map("K")

    def __call__(
        self, x: Array, kernel: Array, compute: Compute, norm: Norm, of: str, stride: int = 1
    ) -> Array:
        """The map of x; its batch norms are named bn_<x> and bn_<kernel>, as in of = "r B"."""
        before, after = of.split()
        if self.form.endswith("s"):
            x = norm(f"bn_{before}")(x, relu=True)
        x = compute.conv(x, kernel, stride)
        if self.norm or self.form.startswith("s"):
            x = norm(f"bn_{after}")(compute.kept(x), relu=self.form.startswith("s"))
        return x


class Step(nn.Module):
    """One smoothing step. A new kind of it (damped, two-step, ...) derives from this.

    It is called with a carry and the kernels of the step, and gives the new carry and None.

    Attributes:
      forms_data: whether it starts from f instead of r; see `Level`.
    """

    scheme: "Scheme"
    train: bool
    compute: Compute

    forms_data: ClassVar[bool] = False

    @staticmethod
    def begin(u: Array | None, data: Array) -> Any:
        """The carry of the first step: from u, and from r (or f where `forms_data`)."""
        return u, data

    @staticmethod
    def end(carry: Any) -> tuple[Any, Array]:
        """What the last step leaves: u, and r (or f)."""
        return carry


class ResidualStep(Step):
    """The state r (Theorem 4.1): carries (u, r); u may be None where nobody reads it."""

    @nn.compact
    def __call__(self, carry: Any, A: Array, B: Array) -> tuple[Any, None]:
        u, r = carry
        record(self, u=u, r=r)
        scheme, compute, norm = self.scheme, self.compute, self.compute.norm(self.train)
        d = scheme.B(r, B, compute, norm, "r B")
        r = scheme.update(r, scheme.A(d, A, compute, norm, "d A"))
        return (None if u is None else u + d, r), None


class FeatureStep(Step):
    """The state u (Algorithms 2 and 3): carries (u, f)."""

    forms_data: ClassVar[bool] = True

    @nn.compact
    def __call__(self, carry: Any, A: Array, B: Array) -> tuple[Any, None]:
        u, f = carry
        scheme, compute, norm = self.scheme, self.compute, self.compute.norm(self.train)
        r = f - scheme.A(u, A, compute, norm, "u A")
        record(self, u=u, r=r)
        return (u + scheme.B(r, B, compute, norm, "r B"), f), None


@dataclasses.dataclass(frozen=True)
class Scheme:
    """An iteration: what a family says of its steps.

    Attributes:
      A, B: the maps.
      share_A, share_B: one kernel a grid (True), or one a step.
      form: the state, "dual" (r) or "direct" (u).
      residual_step, feature_step: what a step does in either; see `Step`.
      sign: the residual's update is r <- r + sign A d.
      rectified: that is followed by ReLU.
    """

    A: Map
    B: Map
    share_A: bool = True
    share_B: bool = True
    form: str = "dual"
    residual_step: type[Step] = ResidualStep
    feature_step: type[Step] = FeatureStep
    sign: int = -1
    rectified: bool = False

    @property
    def step(self) -> type[Step]:
        """The step in the state that is asked for."""
        return self.residual_step if self.form == "dual" else self.feature_step

    def update(self, r: Array, Ad: Array) -> Array:
        """The new residual."""
        r = r - Ad if self.sign < 0 else r + Ad
        return nn.relu(r) if self.rectified else r


def repeat(
    step: type[nn.Module], count: int, compute: Compute, *, in_axes: tuple[Any, ...] = ()
) -> Callable[..., Any]:
    """`nn.scan` of a module over `count` turns; its variables are stacked on a first axis."""
    return nn.scan(
        compute.remember(step),
        variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=count,
        # outside a loop XLA would find the recomputed values again and keep them
        unroll=count if count <= compute.unroll and compute.remat == "none" else 1,
    )


def smooth(
    scheme: Scheme,
    count: int,
    u: Array | None,
    data: Any,
    A: Array,
    B: Array | None,
    train: bool,
    compute: Compute,
) -> tuple[Any, Any]:
    """`count` steps from (u, r) to (u, r), or (u, f) to (u, f): "step" in the module being called.

    A and B hold one kernel, or `count` of them, as the scheme says.
    """
    if not count:
        return u, data
    axes = tuple(nn.broadcast if shared else 0 for shared in (scheme.share_A, scheme.share_B))
    step = repeat(scheme.step, count, compute, in_axes=axes)
    carry, _ = step(scheme, train, compute.inside, name="step")(scheme.step.begin(u, data), A, B)
    return scheme.step.end(carry)


class Level(nn.Module):
    """All nu smoothing steps of one grid: (u, r) to (u, r).

    Attributes:
      scheme: what a step is.
      nu: smoothing steps.
      c_u, c_f: channels of u (N, H, W, c_u) and of f and r (N, H, W, c_f).
      first: u is zero on entry, so that f = r.
      last: nobody reads r on leaving; it is None if its A has batch norms of its own.
    """

    scheme: Scheme
    nu: int
    c_u: int
    c_f: int
    first: bool = False
    last: bool = False
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, u: Array, r: Array, train: bool) -> tuple[Array, Any]:
        scheme, compute = self.scheme, self.compute
        counts = [None if shared else self.nu for shared in (scheme.share_A, scheme.share_B)]
        A = compute.kernel(self, "A", (3, 3, self.c_u, self.c_f), counts[0])
        B = compute.kernel(self, "B", (3, 3, self.c_f, self.c_u), counts[1])

        def A_of(u: Array, place: str) -> Array:
            return scheme.A(u, A, compute, compute.norm(train), f"{place}_u {place}_A")

        f = r if self.first else None
        if f is None and (scheme.step.forms_data or recording(self)):
            f = r + A_of(u, "enter")
        start = f if scheme.step.forms_data else r
        u, end = smooth(scheme, self.nu, u, start, A, B, train, compute)
        left: Array | None = end
        if scheme.step.forms_data:
            left = None if self.last and not scheme.A.linear else end - A_of(u, "leave")
        record(self, f=f, u=u, r=left)
        return u, left


class Restrict(nn.Module):
    """To the next coarser grid: u' = s(Pi u) and r' = s(R r), 3x3 kernels with stride 2.

    The paper's f' = s(R (f - A u)) + A' u' is r' + A' u': its residual on entry is r' exactly.
    """

    c_u: int
    c_f: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, u: Array, r: Array, train: bool) -> tuple[Array, Array]:
        u = Conv(self.c_u, 3, 2, compute=self.compute, name="Pi")(u, train)
        r = Conv(self.c_f, 3, 2, compute=self.compute, name="R")(r, train)
        return u, r


def recording(module: nn.Module) -> bool:
    """Whether the features are asked for, see `features.features`."""
    return module.is_mutable_collection("intermediates") and not module.is_initializing()


def record(module: nn.Module, **values: Array | None) -> None:
    """Notes values for `features.features`; costs nothing where they are not asked for."""
    if recording(module):
        for name, value in values.items():
            if value is not None:
                module.sow("intermediates", name, jnp.asarray(value))
