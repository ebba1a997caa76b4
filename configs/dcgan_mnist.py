"""DCGAN on MNIST: a convolutional generator and discriminator, without labels.

python -m gaxn.main --config configs/dcgan_mnist.py

Results (seed 0, 2 CPU cores; 10,000 samples, the shipped classifier): 12 min, all ten digits, each
with 7.7% to 12.7% of the samples, mean confidence 0.933, Frechet distance 76.4 +- 1.6 (real images
1.48), precision 0.523 and recall 0.863 (real images 0.865 and 0.882).
"""

import common
from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """`tiny` runs in seconds and learns nothing."""
    config = common.gan(num_train_steps=6_000, batch_size=64, latent_size=100)
    config.data = {"name": "idx", "dataset": "mnist"}
    config.generator = {"name": "dcgan.Generator", "widths": (64, 32)}
    config.discriminator = {"name": "dcgan.Discriminator", "widths": (32, 64)}
    config.loss = {"name": "non_saturating"}
    config.optimizers = common.adam(generator=2e-4, discriminator=2e-4, b1=0.5, b2=0.999)
    config.evaluation = {"samples": 10_000}
    config.run = common.run(every=500, columns=10)
    tiny = common.tiny(
        gan={"latent_size": 8},
        generator={"widths": (8, 8)},
        discriminator={"widths": (8, 8)},
        evaluation={"reference_count": 200, "memorization": False},
    )
    return common.with_variant(config, variant, tiny=tiny)
