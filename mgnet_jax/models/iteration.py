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

from mgnet_jax.models.layers import Array, Compute
from mgnet_jax.models.maps import Map, Polynomial
from mgnet_jax.models.relaxation import PLAIN, Relaxation


class Step(nn.Module):
    """One smoothing step. A new kind of it derives from this, or is a `Relaxation`.

    It is called with a carry, the kernels of the step and its `Relaxation.weights`, and gives the
    new carry and None. Of iterations that remember, the carry ends with what the last step added.

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
        return carry[0], carry[1]

    def relaxed(self, d: Array, before: list[Array], weights: Any) -> tuple[Array, list[Array]]:
        """What is added to u, and what is to be remembered of it; see `relaxation`."""
        relaxation = self.scheme.relaxation
        if relaxation.plain:
            return d, []
        if relaxation.learned:
            shape = (2,) if relaxation.remembers else (1,)
            weights = self.param("relaxation", _as_plain, shape, self.compute.param_dtype)
        weights = jnp.asarray(weights, d.dtype)
        if not relaxation.remembers:
            return weights[0] * d, []
        d = weights[0] * d + weights[1] * before[0]
        return d, [d]


class ResidualStep(Step):
    """The state r (Theorem 4.1): carries (u, r); u may be None where nobody reads it."""

    @nn.compact
    def __call__(self, carry: Any, A: Array, B: Any, weights: Any) -> tuple[Any, None]:
        u, r, *before = carry
        record(self, u=u, r=r)
        scheme, compute, norm = self.scheme, self.compute, self.compute.norm(self.train)
        d = scheme.B(r, scheme.kernel_of_B(A, B), compute, norm, "r B")
        d, before = self.relaxed(d, before, weights)
        r = scheme.update(r, scheme.A(d, A, compute, norm, "d A"))
        return (None if u is None else u + d, r, *before), None


class FeatureStep(Step):
    """The state u (Algorithms 2 and 3): carries (u, f)."""

    forms_data: ClassVar[bool] = True

    @nn.compact
    def __call__(self, carry: Any, A: Array, B: Any, weights: Any) -> tuple[Any, None]:
        u, f, *before = carry
        scheme, compute, norm = self.scheme, self.compute, self.compute.norm(self.train)
        r = f - scheme.A(u, A, compute, norm, "u A")
        record(self, u=u, r=r)
        d = scheme.B(r, scheme.kernel_of_B(A, B), compute, norm, "r B")
        d, before = self.relaxed(d, before, weights)
        return (u + d, f, *before), None


def _first_is_one(_: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The polynomial 1."""
    return jnp.zeros(shape, dtype).at[0].set(1)


def _as_plain(_: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The plain step: alpha = 1 and beta = 0."""
    return jnp.array([1.0, 0.0], dtype)[: shape[0]]


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
      relaxation: how much of d = B(r) is added to u.
    """

    A: Map
    B: Map | Polynomial
    share_A: bool = True
    share_B: bool = True
    form: str = "dual"
    residual_step: type[Step] = ResidualStep
    feature_step: type[Step] = FeatureStep
    sign: int = -1
    rectified: bool = False
    relaxation: Relaxation = PLAIN

    def kernel_of_B(self, A: Array, B: Array) -> Any:
        """What B is given as its kernel."""
        return (A, B) if isinstance(self.B, Polynomial) else B

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
    name: str = "step",
) -> tuple[Any, Any]:
    """`count` steps from (u, r) to (u, r), or (u, f) to (u, f): `name` in the module being called.

    A and B hold one kernel, or `count` of them, as the scheme says.
    """
    if not count:
        return u, data
    axes: tuple[Any, ...] = tuple(
        nn.broadcast if shared else 0 for shared in (scheme.share_A, scheme.share_B)
    )
    weights = scheme.relaxation.weights(count)
    axes = (*axes, nn.broadcast if weights is None else 0)
    step = repeat(scheme.step, count, compute, in_axes=axes)
    carry = scheme.step.begin(u, data)
    if scheme.relaxation.remembers:
        carry = (*carry, jnp.zeros((*data.shape[:-1], A.shape[-2]), data.dtype))
    carry, _ = step(scheme, train, compute.inside, name=name)(carry, A, B, weights)
    return scheme.step.end(carry)


class Level(nn.Module):
    """All nu smoothing steps of one grid: (u, r) to (u, r).

    Called again with a correction c, as on the way up of a V-cycle, it goes on from u + c with the
    same A and B, and with batch norms of its own ("step_up"); A is linear then.

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
    def __call__(
        self, u: Array, r: Array, train: bool, correction: Array | None = None
    ) -> tuple[Array, Any]:
        scheme, compute = self.scheme, self.compute
        again = correction is not None
        counts = [None if shared else self.nu for shared in (scheme.share_A, scheme.share_B)]
        A = compute.kernel(self, "A", (3, 3, self.c_u, self.c_f), counts[0])
        if isinstance(scheme.B, Polynomial):
            shape = (scheme.B.degree + 1,)
            B = self.param("B", _first_is_one, shape, compute.param_dtype)
        else:
            B = compute.kernel(self, "B", (3, 3, self.c_f, self.c_u), counts[1])

        def A_of(u: Array, place: str) -> Array:
            return scheme.A(u, A, compute, compute.norm(train), f"{place}_u {place}_A")

        if correction is not None:
            u, r = u + correction, r - compute.conv(correction, A)
        f = r if self.first and not again else None
        if f is None and (scheme.step.forms_data or recording(self)):
            f = r + A_of(u, "enter")
        start = f if scheme.step.forms_data else r
        name = "step_up" if again else "step"
        u, end = smooth(scheme, self.nu, u, start, A, B, train, compute, name)
        left: Array | None = end
        if scheme.step.forms_data:
            left = None if self.last and not scheme.A.linear else end - A_of(u, "leave")
        if again:
            record(self, u_up=u, r_up=left)
        else:
            record(self, f=f, u=u, r=left)
        return u, left


def recording(module: nn.Module) -> bool:
    """Whether the features are asked for, see `features.features`."""
    return module.is_mutable_collection("intermediates") and not module.is_initializing()


def record(module: nn.Module, **values: Array | None) -> None:
    """Notes values for `features.features`; costs nothing where they are not asked for."""
    if recording(module):
        for name, value in values.items():
            if value is not None:
                module.sow("intermediates", name, jnp.asarray(value))
