"""Do classical accelerations need fewer steps or parameters for the same accuracy? A small study.

    python benchmarks/smoothers.py --data_dir=FOLDER --out=FOLDER

Trains MgNets on 10,000 images of CIFAR-100 with plain, damped, two-step, Chebyshev and polynomial
smoothing, and the V-cycle, with several seeds, each a run of its own that is gone on with; prints a
table and writes smoothers.csv. Two to five minutes a run on one core.
"""

from collections.abc import Sequence

from study import options, study

CHANNELS = "[8,16,32,64]"
NETWORKS = (
    *(f"MgNet[{n},{n},{n},{n}]-{CHANNELS}-B^l" for n in (1, 2, 3)),
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-damped",
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-two-step",
    f"MgNet[2,2,2,2]-{CHANNELS}-B^l-chebyshev(0.5,2)",
    f"MgNet[2,2,2,2]-{CHANNELS}-poly(2)",
    f"MgNet[2,2,2,2]-{CHANNELS}-poly(2)-two-step",
    f"MgNet-V[1,1,1,1]-{CHANNELS}-B^l",
)
RECIPE = (
    *("--config=cifar100", "--config.data.train_images=10000", "--config.train.epochs=12"),
    *("--config.train.batch_size=100", "--config.optim.learning_rate=0.1"),
    *("--config.optim.schedule=cosine", "--config.optim.nesterov=True"),
    *("--config.optim.warmup_epochs=1", "--config.eval.every_epochs=12"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is not trained yet; prints and writes the table."""
    study("smoothers", NETWORKS, RECIPE, options(__doc__, "smoothers").parse_args(arguments))


if __name__ == "__main__":
    main()
