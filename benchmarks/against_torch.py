"""Training steps of ours and of PyTorch's on this machine's device, in turn; prints their ratios.

    pip install -e '.[torch]' && python benchmarks/against_torch.py
    python benchmarks/against_torch.py --theirs=eager,compiled --dtype=bfloat16 --batch=256

PyTorch's network (benchmarks/compare_torch.py) is in channels_last, in the published form with f
and in the dual form of Theorem 4.1, as it is or by torch.compile, in bfloat16 by autocast; both
train with SGD on random images, on a GPU if both have one, else on CPUs. Each round runs some steps
of each; what is printed are the medians over the rounds.
"""

import argparse
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from mgnet_jax import create
from mgnet_jax.config import default
from mgnet_jax.data.augment import Augmentation
from mgnet_jax.data.info import ImageSet
from mgnet_jax.data.order import Batches
from mgnet_jax.main import keep_freed_memory
from mgnet_jax.models import parse
from mgnet_jax.training import sharding, steps
from mgnet_jax.training.feed import ResidentTraining
from mgnet_jax.training.measures import Metrics
from mgnet_jax.training.optim import make_optimizer, make_schedule
from mgnet_jax.training.progress import say, table
from mgnet_jax.training.state import create_state

CASES = (
    ("MgNet[2,2,2,2]-[256]-B^l", 32, 3, 8),
    ("MgNet[2,2,2,2]-[128]-B^l", 32, 3, 32),
    ("MgNet[2,2,2,2]-[64]-B^l", 32, 3, 64),
    ("MgNet[2,2,2,2]-[16]-B^l", 28, 1, 128),
)


compiled_in: list[float] = []
"""Seconds that each of `ours` was compiled in."""


def ours(
    name: str,
    size: int,
    channels: int,
    batch: int,
    algorithm: str,
    devices: int = 1,
    dtype: str = "float32",
) -> Callable[[int], float]:
    """Compiles; the result runs so many steps and gives the seconds of one."""
    model, optim = create(name, 10, convolution=algorithm, dtype=dtype), default().optim
    optimizer = make_optimizer(optim, make_schedule(optim, 10, 1000))
    mesh = sharding.make_mesh(jax.devices()[:devices])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * batch, size, size, channels), np.uint8)
    feed = ResidentTraining(
        ImageSet(images, rng.integers(0, 10, 4 * batch).astype(np.int32)),
        Batches(4 * batch, batch),
        mesh,
    )
    step = steps.make_train_step(
        model,
        optimizer,
        mesh,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        augmentation=Augmentation(crop_padding=4, flip=True),
        label_smoothing=0.0,
        ema_decay=0.0,
    )
    shape = (size, size, channels)
    state = jax.jit(lambda key: create_state(model, optimizer, key, shape))(jax.random.key(0))
    arrays, key = feed.arrays(0, 4), jax.random.key(1)
    begun = time.perf_counter()
    train = steps.make_train_chunk(step, feed, mesh)
    compiled = train.lower(state, Metrics.zero(), arrays, 1, key).compile()
    compiled_in.append(time.perf_counter() - begun)
    say(f"  {algorithm}: compiled in {compiled_in[-1]:.1f} s")

    def run(count: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        state, metrics = compiled(state, Metrics.zero(), arrays, count, key)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - begun) / count

    return run


def theirs(
    name: str, size: int, channels: int, batch: int, form: str, mode: str, dtype: str
) -> Callable[[int], float]:
    """The same in PyTorch, in form "published" or "dual", in mode "eager" or "compiled"."""
    import torch
    from compare_torch import TorchMgNet
    from torch.nn import functional

    class Dual(TorchMgNet):
        """Theorem 4.1: r in place of f."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Logits (N, classes) of images (N, C, H, W)."""
            r = self.stem(x)
            u = r.new_zeros(r.shape[0], self.spec.channels[0][0], *r.shape[2:])
            for level, nu in enumerate(self.spec.nu):
                A, B = self.A[level], self.B[level]
                for i in range(nu):
                    d = B[i % len(B)](functional.relu(self.bn_r[level][i](r)))
                    d = functional.relu(self.bn_B[level][i](d))
                    u, r = u + d, r - A(d)
                if level + 1 < len(self.spec.nu):
                    r, u = self.R[level](r), self.Pi[level](u)
            return self.head(u.mean((2, 3)))

    spec = parse(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = (Dual if form == "dual" else TorchMgNet)(spec, 10, channels)
    made = made.to(device, memory_format=torch.channels_last)
    torch.compiler.reset()  # else it compiles for any shape from the second network on
    model = torch.compile(made, dynamic=False) if mode == "compiled" else made
    sgd = torch.optim.SGD(made.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    x = torch.randn(batch, channels, size, size, device=device)
    x, y = x.to(memory_format=torch.channels_last), torch.randint(0, 10, (batch,), device=device)
    narrow = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def run(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            sgd.zero_grad()
            with narrow:
                loss = functional.cross_entropy(model(x), y)
            loss.backward()
            sgd.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / count

    return run


def comparison(case: tuple[str, int, int, int], args: argparse.Namespace) -> dict[str, object]:
    """A row: milliseconds a step of each, and the ratios."""
    say(f"{case[0]}, {case[1]}x{case[1]}x{case[2]}, batch {case[3]}, {args.dtype}")
    ours_names = args.ours.split(",")
    runs = {name: ours(*case, name, dtype=args.dtype) for name in ours_names}
    if importlib.util.find_spec("torch"):
        for form, mode in itertools.product(("published", "dual"), args.theirs.split(",")):
            name = form if mode == "eager" else f"{form} {mode}"
            runs[name] = theirs(*case, form, mode, args.dtype)
    for run in runs.values():
        run(1)  # compiles PyTorch's
    counts = {name: max(1, round(args.seconds / run(1))) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            times[name].append(run(counts[name]))
    ms = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    spread = {n: f"{1e3 * min(t):.0f}-{1e3 * max(t):.0f}" for n, t in times.items()}
    pairs = itertools.product(ours_names, (n for n in ms if n not in ours_names))
    return (
        {"network": case[0], "batch": case[3]}
        | {f"{name} ms": f"{x:.0f} ({spread[name]})" for name, x in ms.items()}
        | {f"{theirs_} / {ours_}": round(ms[theirs_] / ms[ours_], 2) for ours_, theirs_ in pairs}
    )


def main() -> None:
    """Prints a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="0,1,2,3", help="which of the cases in this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each in a round")
    parser.add_argument("--ours", default="auto,native", help="values of model.convolution")
    parser.add_argument("--theirs", default="eager", help="of eager, compiled")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, help="images, in place of each case's own")
    args = parser.parse_args()
    keep_freed_memory()  # for both
    if not importlib.util.find_spec("torch"):
        say("PyTorch is not installed (pip install -e '.[torch]'): ours alone")
    cases = [CASES[int(i)] for i in args.cases.split(",")]
    rows = [comparison((*case[:3], args.batch or case[3]), args) for case in cases]
    say("")
    say(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, medians of {args.rounds} rounds")
    say(table(rows))


if __name__ == "__main__":
    main()
