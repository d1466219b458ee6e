"""MNIST."""

from ml_collections import ConfigDict

from mgnet_jax.config import default


def get_config() -> ConfigDict:
    config = default()
    config.name = "mnist"
    config.data.name = "mnist"
    config.data.crop_padding = 2
    config.data.flip = False
    config.model.spec = "MgNet[2,2,2,2]-[16]-B^l"
    config.train.epochs = 8
    config.train.batch_size = 128
    config.optim.learning_rate = 0.1
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 1.0
    config.optim.nesterov = True
    config.log.every_steps = 78
    return config
