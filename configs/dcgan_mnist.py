"""DCGAN on MNIST: convolutions against convolutions, without labels.

python -m gaxn.main --config configs/dcgan_mnist.py

Seen (seed 0, 2 CPU cores; 10,000 samples, the shipped classifier): 12 min, all ten digits, each
with 7.7% to 12.7% of the samples, mean confidence 0.933, Frechet distance 76.4 +- 1.6 (floor
1.48), precision 0.523 and recall 0.863 (floors 0.865 and 0.882).
"""

from ml_collections import ConfigDict

from gaxn.schema import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """`tiny` runs in seconds and learns nothing."""
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 6_000,
            "batch": 64,
            "critic_turns": 1,
            "ema_decay": 0.999,
            "conditional": False,
            "parallel": "auto",
            "data": {"name": "idx", "dataset": "mnist", "directory": ""},
            "updates": {"name": "alternating"},
            "game": {"name": "image_gan.ImageGan", "latent": 100},
            "generator": {"name": "dcgan.Generator", "widths": (64, 32)},
            "discriminator": {
                "name": "dcgan.Discriminator",
                "widths": (32, 64),
                "batch_norm": False,
            },
            "loss": {"name": "non_saturating"},
            "penalties": {},
            "augmentations": {},
            "optimizers": {
                "generator": {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999},
                "discriminator": {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999},
            },
            "evaluation": {"samples": 10_000},
            "run": {
                "log_every": 50,
                "sample_every": 500,
                "checkpoint_every": 500,
                "keep": 3,
                "sample_columns": 10,
            },
        }
    )
    tiny = {
        "steps": 8,
        "batch": 8,
        "game": {"latent": 8},
        "generator": {"widths": (8, 8)},
        "discriminator": {"widths": (8, 8)},
        "evaluation": {"samples": 60, "reference_count": 200, "memorisation": False},
        "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4},
    }
    return with_variant(config, variant, {"tiny": tiny})
