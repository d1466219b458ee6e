"""A and B of a smoothing step: a kernel with batch norm and ReLU about it, or a polynomial in A."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from mgnet_jax.models.layers import Array, Compute

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


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """B x = s(c_0 y + c_1 A y + ... + c_k A^k y) with y = s(x): a polynomial in A.

    The kernel of B are its coefficients then, one set a grid. Such smoothers are those of
    Poly-MgNet (van Betteray, Rottmann and Kahl 2023); A must map c channels to c.

    Attributes:
      degree: k.
    """

    degree: int

    norm: ClassVar[bool] = True
    form: ClassVar[str] = "sKs"

    def __call__(
        self, x: Array, kernel: tuple[Array, Array], compute: Compute, norm: Norm, of: str
    ) -> Array:
        """The map of x, by Horner's rule; kernel is A and the coefficients."""
        A, coefficients = kernel
        before, after = of.split()
        x = norm(f"bn_{before}")(x, relu=True)
        c = coefficients.astype(x.dtype)
        y = c[self.degree] * x
        for k in reversed(range(self.degree)):
            y = compute.conv(y, A) + c[k] * x
        return norm(f"bn_{after}")(compute.kept(y), relu=True)
