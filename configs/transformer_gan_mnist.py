"""Transformer GAN on MNIST: Transformer against Transformer, without labels.

    python -m gaxn.main --config configs/transformer_gan_mnist.py
"""

from ml_collections import ConfigDict

from gaxn.schema import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """`tiny` runs in seconds and learns nothing."""
    decay = {"begin": 8_000, "end": 24_000, "to": 0.05}
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 24_000,
            "batch": 32,
            "critic_turns": 1,
            "ema_decay": 0.999,
            "conditional": False,
            "parallel": "auto",
            "data": {"name": "idx", "dataset": "mnist", "directory": ""},
            "game": {"name": "image_gan.ImageGan", "latent": 64},
            "generator": {
                "name": "transformer_gan.Generator",
                "patch": 7,
                "width": 96,
                "depth": 3,
                "heads": 4,
                "ratio": 2,
                "modulated": True,
            },
            "discriminator": {
                "name": "transformer_gan.Discriminator",
                "patch": 7,
                "width": 96,
                "depth": 2,
                "heads": 4,
                "ratio": 2,
                "hidden": 128,
            },
            "loss": {"name": "relativistic"},
            "penalties": {"r1": 0.5},
            "augmentations": {},
            "optimizers": {
                "generator": {
                    "name": "adam",
                    "learning_rate": 1e-3,
                    "b1": 0.0,
                    "b2": 0.99,
                    "decay": decay,
                },
                "discriminator": {
                    "name": "adam",
                    "learning_rate": 5e-4,
                    "b1": 0.0,
                    "b2": 0.99,
                    "decay": decay,
                },
            },
            "evaluation": {"samples": 10_000},
            "run": {
                "log_every": 100,
                "sample_every": 1_000,
                "checkpoint_every": 1_000,
                "keep": 3,
                "sample_columns": 10,
            },
        }
    )
    tiny = {
        "steps": 8,
        "batch": 8,
        "game": {"latent": 8},
        "generator": {"patch": 7, "width": 16, "depth": 1, "heads": 2},
        "discriminator": {"patch": 7, "width": 16, "depth": 1, "heads": 2, "hidden": 16},
        "evaluation": {"samples": 60},
        "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4},
    }
    return with_variant(config, variant, {"tiny": tiny})
