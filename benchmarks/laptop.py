"""Accuracy against minutes on two CPU cores: MgNet and ResNets of equal work, trained alike.

    python benchmarks/laptop.py --set=cifar10 --data_dir=FOLDER --out=FOLDER
    python benchmarks/laptop.py --set=cifar10 --data_dir=FOLDER --out=FOLDER --only=MgNet
    python benchmarks/laptop.py --set=cifar100 --data_dir=FOLDER --out=FOLDER --convolution=native
    python benchmarks/laptop.py --data_dir=FOLDER --out=FOLDER --only=pre-act --learning_rate=0.05

Trains the preset `laptop` of CIFAR-10 or CIFAR-100, and in its recipe a ResNet18 and a pre-act
ResNet18-A^l-B^{l,i} that are narrowed to about as many multiply-adds, with several seeds, each a
run of its own that is gone on with; prints a table and writes laptop.csv. A quarter of an hour a
run, or ten minutes with the machine's own compiler. The pre-act ResNet, whose features no batch
norm keeps in bounds before the head, diverges at the preset's rate.
"""

from collections.abc import Sequence

from study import options, study

from mgnet_jax.config import shipped

RESNETS = (
    "pre-act ResNet[2,2,2,2]-[32,64,128,256]-A^l-B^{l,i}",
    "ResNet[2,2,2,2]-[32,64,128,256]-A^{l,i}-B^{l,i}",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is not trained yet; prints and writes the table."""
    parser = options(__doc__, "laptop")
    parser.add_argument("--set", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--only", default="", help="networks whose names begin with this")
    parser.add_argument("--convolution", default="auto", help="model.convolution of all")
    parser.add_argument("--learning_rate", type=float, help="of all, in place of the preset's")
    args = parser.parse_args(arguments)
    networks = (shipped.load(args.set, "laptop").model.spec, *RESNETS)
    chosen = [network for network in networks if network.startswith(args.only)]
    if not chosen:
        parser.error(f"--only={args.only}: no name of {', '.join(networks)} begins so")
    common = [f"--config={args.set}:laptop", f"--config.model.convolution={args.convolution}"]
    if args.learning_rate:
        common.append(f"--config.optim.learning_rate={args.learning_rate}")
    study("laptop", chosen, common, args)


if __name__ == "__main__":
    main()
