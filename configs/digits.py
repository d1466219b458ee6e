"""The default: MgNet on scikit-learn's 1,797 real 8x8 digits."""

from ml_collections import ConfigDict

from mgnet_jax.config import default


def get_config() -> ConfigDict:
    config = default()
    config.name = "digits"
    config.data.name = "digits"
    config.data.crop_padding = 1
    config.data.flip = False
    config.model.spec = "MgNet[2,2,2]-[32]-B^l"
    config.train.epochs = 30
    config.train.batch_size = 64
    config.optim.learning_rate = 0.1
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 2.0
    config.optim.nesterov = True
    config.eval.every_epochs = 5
    config.log.every_steps = 22
    return config
