"""Draws the figures of docs/mathematics.md: what smoothing does, and what coarser grids are for.

python examples/figures.py --out=docs/figures
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mgnet_jax.analysis.multigrid import poisson, v_cycle
from mgnet_jax.analysis.symbol import LAPLACIAN, symbol

POINTS = 63
OMEGA = 0.8


def jacobi(e: np.ndarray) -> np.ndarray:
    """An error after a step of damped Jacobi for the 5-point Laplacian, 0 around the grid."""
    wide = np.pad(e, 1)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return e - OMEGA * (e - around / 4)


def smoothing(path: Path) -> None:
    """An error before and after smoothing steps, and what a step leaves of each frequency."""
    error = np.random.default_rng(0).normal(size=(POINTS, POINTS))
    shown, after = {}, error
    for step in range(11):
        if step in (0, 2, 10):
            shown[f"error after {step} steps"] = after
        after = jacobi(after)
    figure = Figure(figsize=(12, 3), layout="constrained")
    axes = figure.subplots(1, 4)
    for ax, (title, values) in zip(axes, shown.items(), strict=False):
        top = np.abs(values).max()
        figure.colorbar(ax.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top), ax=ax, shrink=0.8)
        ax.set(title=title, xticks=[], yticks=[])
    theta = np.linspace(-np.pi, np.pi, 129)
    left = np.abs(1 - OMEGA * symbol(LAPLACIAN[..., None, None], theta, theta)[..., 0, 0] / 4)
    mesh = axes[3].pcolormesh(theta / np.pi, theta / np.pi, left, cmap="viridis", rasterized=True)
    figure.colorbar(mesh, ax=axes[3], shrink=0.8, label="left by a step")
    axes[3].plot([-0.5, 0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5, -0.5], "w--", linewidth=1)
    axes[3].set(title="by frequency", xlabel="θx / π", ylabel="θy / π", aspect="equal")
    figure.savefig(path, dpi=90, metadata={"Software": None})


def grids(path: Path) -> None:
    """The error against the work, of smoothing alone and of V-cycles."""
    error = np.random.default_rng(0).normal(size=(POINTS, POINTS))
    alone = [error]
    for _ in range(40):
        alone.append(jacobi(alone[-1]))
    hierarchy = poisson(POINTS, 1, 1)
    cycle = jax.jit(lambda u: v_cycle(hierarchy, u, jnp.zeros_like(u)))
    u = jnp.asarray(error)[None, ..., None]
    cycles = [u]
    for _ in range(10):
        cycles.append(cycle(cycles[-1]))
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    norms = [float(np.linalg.norm(e)) for e in alone]
    axes.semilogy(np.arange(len(norms)), norms, color="#0072B2", label="damped Jacobi, one grid")
    norms = [float(jnp.linalg.norm(e)) for e in cycles]
    # two steps a cycle, residuals and transfers about two more, all coarser grids a third of that
    work = np.arange(len(norms)) * 4 * 4 / 3
    axes.semilogy(work, norms, ".-", color="#D55E00", label="V(1,1) cycles, six grids")
    axes.set(xlabel="work, in smoothing steps of the finest grid", ylabel="‖error‖", xlim=(0, 40))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    smoothing(args.out / "smoothing.png")
    grids(args.out / "grids.png")


if __name__ == "__main__":
    main()
