"""The config of third_gan.py on synthetic shapes: 4 steps that take seconds and teach nothing."""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config; it has no variants."""
    adam = {"name": "adam", "learning_rate": 1e-3, "b1": 0.5}
    return ConfigDict(
        {
            "seed": 0,
            "num_train_steps": 4,
            "batch_size": 8,
            "ema_decay": 0.9,
            "data": {"name": "shapes", "size": 32, "examples": 64},
            "gan": {"name": "third_gan:EncoderGAN"},
            "generator": {"name": "dcgan.Generator", "widths": (8,)},
            "discriminator": {"name": "dcgan.Discriminator", "widths": (8,)},
            "networks": {"encoder": {"name": "third_gan:Encoder", "latent_size": 4}},
            "loss": {"name": "non_saturating"},
            "penalties": {"r1": {"weight": 0.5}},
            "optimizers": {
                "discriminator": dict(adam),
                "encoder": {"name": "rmsprop", "learning_rate": 1e-3},
                "generator": dict(adam),
            },
            "evaluation": {
                "samples": 20,
                "reference_count": 40,
                "metrics": ("frechet",),
                "memorization": False,
            },
            "run": {
                "log_every": 1,
                "sample_every": 2,
                "checkpoint_every": 2,
                "keep": 3,
                "sample_columns": 3,
            },
        }
    )
