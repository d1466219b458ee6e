"""Prints how far every network is from PyTorch's.

python -m tests.torch_parity.figures
"""

import sys
import time

import jax
import torch

from tests.torch_parity.cases import torch_nn_cases, torchvision_cases, torchvision_models
from tests.torch_parity.compare import Case, compare

COLUMNS = ("evaluation", "logits", "gradients", "statistics")


def table(title: str, cases: list[Case]) -> None:
    """Prints a line for each network, in Markdown."""
    print(f"\n{title}\n\n| network | {' | '.join(COLUMNS)} | s |\n|---|{'---|' * 5}")
    for case in cases:
        start = time.monotonic()
        result = compare(case)
        values = [getattr(result, column) for column in COLUMNS]
        words = ["-" if value is None else f"{value:.1e}" for value in values]
        seconds = time.monotonic() - start
        print(f"| `{case}` | {' | '.join(words)} | {seconds:.1f} |", flush=True)


def main() -> None:
    """Prints the tables."""
    jax.config.update("jax_platforms", "cpu")
    torchvision_models()
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, "
        f"torchvision {sys.modules['torchvision'].__version__}, float64: largest differences, of "
        "each array relative to its largest entry"
    )
    table("torchvision's networks", torchvision_cases())
    table("Networks written from torch.nn", torch_nn_cases())


if __name__ == "__main__":
    main()
