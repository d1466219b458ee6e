"""Keys of the optimiser and of its learning rate."""

from ml_collections import ConfigDict

from mgnet_jax.config.key import INFINITY, ConfigError, Key, at_least, choice, within
from mgnet_jax.data.info import Info

KEYS = {
    "optim.learning_rate": within(0, INFINITY, 0.1, "learning rate, at its peak"),
    "optim.momentum": within(0, 1, 0.9, "part of the last step that the next one keeps"),
    "optim.nesterov": Key(False, "Nesterov's momentum"),
    "optim.weight_decay": within(0, INFINITY, 5e-4, "added to the gradient, times the weight"),
    "optim.decay_mask": choice(
        "all", ("all", "kernels"), "what decays: all as in PyTorch, or not batch norms and biases"
    ),
    "optim.clip_norm": within(
        0, INFINITY, 0.0, "largest 2-norm of the gradient, before the decay; 0: no clipping"
    ),
    "optim.muon": within(
        0,
        INFINITY,
        0.0,
        "Muon: kernels take orthogonalised steps, of this rate times the learning rate; 0: SGD",
    ),
    "optim.muon_momentum": within(
        0, 1, 0.6, "the momentum of Muon's kernels, which optim.momentum is not for"
    ),
    "optim.schedule": choice(
        "step",
        ("step", "cosine", "linear", "constant"),
        "of the learning rate: drops, to 0 as a cosine or in a straight line, none",
    ),
    "optim.step_epochs": at_least(
        1, 30, "'step' lowers the rate in every epoch whose number is a multiple of this"
    ),
    "optim.step_factor": within(0, 1, 0.1, "what 'step' multiplies the rate by at each drop"),
    "optim.first_epoch": Key(
        0,
        "number of the first epoch, for 'step'; with 1, as in the published script, drops come an "
        "epoch earlier",
        lambda v: v in (0, 1),
        "0 or 1",
    ),
    "optim.warmup_epochs": within(0, INFINITY, 0.0, "epochs of linear warm-up, any schedule"),
}


def check(config: ConfigDict, info: Info, devices: int) -> None:
    """Raises ConfigError for a momentum without momentum, or a warm-up without an end."""
    optim, epochs = config.optim, config.train.epochs
    if optim.nesterov and not optim.momentum:
        raise ConfigError("config.optim.nesterov=True needs config.optim.momentum > 0")
    if optim.warmup_epochs >= epochs:
        raise ConfigError(
            f"config.optim.warmup_epochs={optim.warmup_epochs} must be less than "
            f"config.train.epochs={epochs}; 0 is none"
        )
