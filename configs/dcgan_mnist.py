"""DCGAN on MNIST: a convolutional generator and discriminator, without labels.

python -m gaxn.main --config configs/dcgan_mnist.py

Results (seed 0, one CPU core, at the speed of its log when nothing else ran there: 13.7 min; 10,000
samples, the shipped classifier): all ten digits, each with 8.6% to 11.6% of the samples, mean
confidence 0.976, Frechet distance 8.06 +- 0.69 (real images 1.48), precision 0.790 and recall 0.856
(real images 0.865 and 0.882). The target was a distance below 8.

    24,000 steps, 29.2 min beside other work           5.15 +- 0.72 precision 0.809  recall 0.859
    6,000 steps                                        10.6 +- 0.7   precision 0.740  recall 0.846
    `:classic`, the recipe of the paper, 64 a batch    76.4 +- 1.6   precision 0.523  recall 0.863

The networks are the same but for the hidden layer of the discriminator.
"""

import common
from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """`classic` is the recipe of the paper; `tiny` runs in seconds and learns nothing."""
    config = common.gan(num_train_steps=12_000, batch_size=32, latent_size=32, ema_decay=0.998)
    config.data = {"name": "idx", "dataset": "mnist"}
    config.generator = {"name": "dcgan.Generator", "widths": (64, 32)}
    config.discriminator = {"name": "dcgan.Discriminator", "widths": (32, 64), "hidden": 128}
    config.loss = {"name": "relativistic"}
    config.penalties = {"r1": {"weight": 0.5}}
    config.optimizers = common.adam(
        generator=2e-3, discriminator=1e-3, b1=0.0, b2=0.99, decay=(1 / 3, 0.05)
    )
    config.evaluation = {"samples": 10_000}
    config.run = common.run(every=500, columns=10)
    if "classic" in variant.split("+"):
        config.update(num_train_steps=6_000, batch_size=64, ema_decay=0.999)
        config.gan.latent_size = 100
        config.discriminator.hidden = 0
        config.loss = {"name": "non_saturating"}
        config.penalties = {}
        config.optimizers = common.adam(generator=2e-4, discriminator=2e-4, b1=0.5, b2=0.999)
    tiny = common.tiny(
        gan={"latent_size": 8},
        generator={"widths": (8, 8)},
        discriminator={"widths": (8, 8), "hidden": 16},
        evaluation={"reference_count": 200, "memorization": False},
    )
    return common.with_variant(config, variant, classic={}, tiny=tiny)
