"""Learns to solve -div(a grad u) = f, u = 0 around, for random piecewise constant a.

    python examples/diffusion.py --out=FOLDER

Networks with about as many parameters are trained alike on problems of 64x64 cells, which are made
and solved here with SciPy: MgNet-V, a V-cycle whose grids share A and B, with two smoothing steps a
grid and with four, which take no more parameters; the same smoothing steps on the finest grid
alone; a U-Net (Ronneberger et al. 2015). They are scored by the relative L2 error of u, and once
more, as they are, on the same kind of problem with 128x128 cells.
"""

import argparse
import bisect
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
import scipy.sparse.linalg
from flax import linen as nn

import mgnet_jax
from mgnet_jax.models.layers import Conv

CONTRAST = 10.0
"""Of a: it is 1 or this."""
MODES = 6
"""Frequencies of the random fields: up to so many half waves a side."""


def fields(rng: np.random.Generator, cells: int, count: int) -> np.ndarray:
    """Smooth random functions of the unit square at the cells' centres, (count, cells, cells).

    Their mean is 0 and their standard deviation 1.
    """
    x = (np.arange(cells) + 0.5) / cells
    waves = np.cos(np.pi * np.outer(np.arange(MODES + 1), x))
    k = np.arange(MODES + 1)
    size = 1 / (1 + k[:, None] ** 2 + k**2)
    coefficients = rng.normal(size=(count, MODES + 1, MODES + 1)) * size
    coefficients[:, 0, 0] = 0
    found = np.einsum("nij,iy,jx->nyx", coefficients, waves, waves)
    return found / found.std((1, 2), keepdims=True)


def solve(a: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Finite volumes: u at the cells' centres, with harmonic means of a between cells."""
    n = len(a)
    index = np.arange(n * n).reshape(n, n)
    diagonal = np.zeros((n, n))
    rows, columns, values = [], [], []
    for axis in (0, 1):
        low, high = np.split(np.moveaxis(a, axis, 0), [n - 1])[0], np.moveaxis(a, axis, 0)[1:]
        between = 2 * low * high / (low + high) * n**2
        at = np.moveaxis(index, axis, 0)
        rows += [at[:-1].ravel(), at[1:].ravel()]
        columns += [at[1:].ravel(), at[:-1].ravel()]
        values += [-between.ravel()] * 2
        moved = np.moveaxis(diagonal, axis, 0)
        moved[:-1] += between
        moved[1:] += between
        edge = np.moveaxis(a, axis, 0) * 2 * n**2  # half a cell to u = 0
        moved[0] += edge[0]
        moved[-1] += edge[-1]
    matrix = scipy.sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n * n, n * n),
    )
    matrix = (matrix + scipy.sparse.diags(diagonal.ravel())).tocsc()
    return scipy.sparse.linalg.spsolve(matrix, f.ravel()).reshape(n, n)


def problems(seed: int, cells: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (count, cells, cells, 2), log a and f, and solutions u (count, cells, cells, 1)."""
    rng = np.random.default_rng(seed)
    a = np.where(fields(rng, cells, count) > 0, CONTRAST, 1.0)
    f = 1 + fields(rng, cells, count) / 2
    u = np.stack([solve(*pair) for pair in zip(a, f, strict=True)])
    inputs = np.stack([np.log(a) / np.log(CONTRAST) - 0.5, f], -1)
    return inputs.astype(np.float32), u[..., None].astype(np.float32)


class UNet(nn.Module):
    """Two convolutions a grid, max-pooling down, transposed convolutions up, skips joined."""

    width: float
    grids: int

    def channels(self, grid: int) -> int:
        """Twice as many on each coarser grid, up to four times."""
        return round(self.width * 2 ** min(grid, 2))

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def twice(x: jax.Array, channels: int, name: str) -> jax.Array:
            for i in (1, 2):
                x = Conv(channels, name=f"{name}_{i}")(x, train)
            return x

        skips = []
        for grid in range(self.grids):
            if grid:
                x = nn.max_pool(x, (2, 2), (2, 2))
            x = twice(x, self.channels(grid), f"down{grid}")
            skips.append(x)
        for grid in reversed(range(self.grids - 1)):
            channels = self.channels(grid)
            x = nn.ConvTranspose(channels, (2, 2), (2, 2), name=f"up{grid}")(x)
            x = twice(jnp.concatenate([x, skips[grid]], -1), channels, f"joined{grid}")
        return nn.Dense(1, name="head")(x)


def networks(channels: int) -> dict[str, Any]:
    """V-cycles, and two others as near to their parameters as they come, by name."""
    v, more = (
        mgnet_jax.create(f"MgNet-V[{nu}]-[{channels}]-B^l", 1, output="pixels")
        for nu in ("2,2,2,2,2", "4,4,4,4,4")
    )
    wanted = parameters(v)
    each = 9 * channels**2 + 4 * channels
    steps = round((wanted - 9 * channels**2) / each)
    single = mgnet_jax.create(f"MgNet-V[{steps}]-[{channels}]-B^{{l,i}}", 1, output="pixels")
    widths = [w / 4 for w in range(8, 128)]
    wide = bisect.bisect(widths, wanted, hi=len(widths) - 1, key=lambda w: parameters(UNet(w, 5)))
    width = min(
        widths[max(wide - 1, 0) : wide + 1], key=lambda w: abs(parameters(UNet(w, 5)) - wanted)
    )
    named = {str(model.spec): model for model in (v, more, single)}
    return named | {f"U-Net, width {width:g}": UNet(width, 5)}


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    tree = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 32, 32, 2))), jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(tree["params"]))


def relative(found: Any, u: Any) -> Any:
    """||found - u|| / ||u|| of each problem."""
    axes = (1, 2, 3)
    return jnp.sqrt(jnp.sum((found - u) ** 2, axes) / jnp.sum(u**2, axes))


def trained(
    model: nn.Module, inputs: np.ndarray, u: np.ndarray, epochs: int, batch: int, seed: int
) -> tuple[Any, float]:
    """The variables after Adam with a cosine from 3e-3, on the mean relative error; seconds."""
    count, scale = len(u), float(u.std())
    total = epochs * (count // batch)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, total))
    variables = jax.jit(model.init)(jax.random.key(seed), inputs[:1])
    params, stats = variables["params"], variables["batch_stats"]
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, stats: Any, state: Any, x: jax.Array, y: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            found, new = model.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(relative(found * scale, y)), new["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), stats, state, value

    rng, begun = np.random.default_rng(seed), time.monotonic()
    for epoch in range(epochs):
        order, values = rng.permutation(count), []
        for i in range(0, count - batch + 1, batch):
            chosen = order[i : i + batch]
            params, stats, state, value = step(params, stats, state, inputs[chosen], u[chosen])
            values.append(value)
        mean = float(np.mean(jax.device_get(values)))
        print(f"  epoch {epoch + 1}/{epochs}  relative error {mean:.4f}", flush=True)
    return ({"params": params, "batch_stats": stats}, scale), time.monotonic() - begun


def errors(model: nn.Module, made: Any, inputs: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The relative error of each problem."""
    variables, scale = made
    run = jax.jit(lambda v, x, y: relative(model.apply(v, x) * scale, y))
    parts = [run(variables, inputs[i : i + 20], u[i : i + 20]) for i in range(0, len(u), 20)]
    return np.concatenate(jax.device_get(parts))


def draw(path: Path, model: nn.Module, made: Any, inputs: np.ndarray, u: np.ndarray) -> None:
    """A problem, its solution, and what a network makes of it."""
    from matplotlib.figure import Figure

    variables, scale = made
    found = np.asarray(model.apply(variables, inputs[:1]) * scale)[0, ..., 0]
    pictures = {
        "a": CONTRAST ** (inputs[0, ..., 0] + 0.5),
        "f": inputs[0, ..., 1],
        "u": u[0, ..., 0],
        "u found": found,
        "difference": found - u[0, ..., 0],
    }
    figure = Figure(figsize=(13, 2.8), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 5), pictures.items(), strict=True):
        figure.colorbar(axes.imshow(values, cmap="viridis"), ax=axes, shrink=0.8)
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and scores them; writes diffusion.json and diffusion.png."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=1000, help="to train on")
    parser.add_argument("--tests", type=int, default=100, help="to score, of each size")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--channels", type=int, default=16, help="of MgNet-V")
    parser.add_argument("--cells", type=int, default=64, help="a side; scored on twice as many too")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each network")
    parser.add_argument("--only", default="", help="networks, by parts of their names, as 'V[2;U'")
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args(arguments)
    words, known = args.only.split(";"), networks(args.channels)
    chosen = {name: m for name, m in known.items() if any(word in name for word in words)}
    if not chosen:
        parser.error(f"--only={args.only!r} is part of none of {', '.join(known)}")
    begun = time.monotonic()
    train = problems(0, args.cells, args.problems)
    tests = {n: problems(1, n, args.tests) for n in (args.cells, 2 * args.cells)}
    print(f"{args.problems + 2 * args.tests} problems solved in {time.monotonic() - begun:.0f} s")
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, model in chosen.items():
        for seed in range(args.seeds):
            print(f"{name}, {parameters(model):,} parameters, seed {seed}")
            made, seconds = trained(model, *train, args.epochs, args.batch, seed)
            row = {"network": name, "parameters": parameters(model), "seed": seed}
            row |= {f"error_{n}": float(errors(model, made, *tests[n]).mean()) for n in tests}
            row["seconds"] = round(seconds, 1)
            rows.append(row)
            print(f"  {row}", flush=True)
            if len(rows) == 1:
                draw(args.out / "diffusion.png", model, made, *tests[args.cells])
    (args.out / "diffusion.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
