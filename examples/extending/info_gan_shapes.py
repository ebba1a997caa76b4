"""InfoGAN on synthetic shapes, 32x32, without labels; `:tiny` takes seconds and learns nothing."""

from ml_collections import ConfigDict

from gaxn.config import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of a variant."""
    config = ConfigDict({"seed": 0, "num_train_steps": 8_000, "batch_size": 32, "ema_decay": 0.998})
    config.data = {"name": "shapes", "size": 32}
    config.gan = {"name": "info_gan:InfoGAN", "latent_size": 16}
    config.generator = {"name": "dcgan.Generator", "widths": (64, 32)}
    config.discriminator = {"name": "dcgan.Discriminator", "widths": (32, 64)}
    config.networks = {"encoder": {"name": "info_gan:Encoder", "codes": 4}}
    config.loss, config.penalties = {"name": "relativistic"}, {"r1": {"weight": 0.5}}
    players = "discriminator", "generator", "encoder"
    adam = {"name": "adam", "learning_rate": 1e-3, "b1": 0.5}
    config.optimizers = {player: dict(adam) for player in players}
    config.evaluation = {"samples": 10_000, "memorization": True}
    config.run = {"log_every": 50, "sample_every": 500, "checkpoint_every": 500}
    config.run.update({"keep": 3, "sample_columns": 8})
    tiny = {"num_train_steps": 4, "batch_size": 8, "generator": {"widths": (8, 8)}}
    tiny |= {"data": {"examples": 64}, "discriminator": {"widths": (8, 8)}, "run": {"log_every": 1}}
    tiny |= {"evaluation": {"samples": 20, "metrics": ("frechet",), "memorization": False}}
    return with_variant(config, variant, {"tiny": tiny})
