"""Stacked MNIST (Lin et al., 2018, section 4.2): how many of a thousand modes a GAN covers.

    python -m gaxn.main --config configs/stacked_mnist.py:pacdcgan2 --workdir runs/stacked/pacdcgan2

Rows are variants: dcgan, pacdcgan2, pacdcgan3, pacdcgan4, r3gan (relativistic with R1 and R2, a
discriminator without BatchNorm). `half+` and `quarter+` before them are the small players, whose
discriminator has a half or a quarter of the generator's channels (Metz et al., 2017,
section 3.3.1). Ten seeds are trained at once.

As in the protocol: 128,000 triples of digits, 50 epochs of batches of 64, two generator steps,
Adam 2e-4 with b1 0.5, 26,000 samples; with small players 500,000 steps of batches of 128, Adam 2e-4
and 1e-4 with b1 0.5 and b2 0.99, latents of 256, 25,600 samples.
As in the authors' code: the channels of every map, BatchNorm in both players, a batch of packs.
Different: kernels of 4x4 (there 5x5; 3x3 with small players), latents from a Gaussian (there
uniform in the large form), a 3x3 convolution from 32 channels at the end of the large generator,
LeakyReLU 0.2 (there 0.3 with small players), no BatchNorm after the first convolution (there one
with small players), fresh latents in each update (there the same ones) and only digits of the
training set; 1,280,000 triples with small players (there drawn without end).

No row has been trained to the end: ten seeds take days on a CPU. On one core, one seed, a step of
quarter+dcgan takes about 0.09 s, one of dcgan 5 s. After 2,000 steps of quarter+dcgan 204 modes
were counted (reverse KL 3.9) and no digit could be read: a classifier names any image a digit.
"""

import common
from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """A row, and its form, joined by "+"; `tiny` runs in seconds and learns nothing."""
    config = common.gan(num_train_steps=100_000, batch_size=64, latent_size=100)
    config.generator_steps = 2
    config.population = 10
    config.data = {"name": "stacked_mnist", "examples": 128_000}
    config.generator = {"name": "dcgan.Generator", "widths": (256, 128, 64, 32), "first": 512}
    config.discriminator = {
        "name": "dcgan.Discriminator",
        "widths": (64, 128, 256, 512),
        "batch_norm": True,
    }
    config.loss = {"name": "non_saturating"}
    config.objective = {"packing": 1}
    config.optimizers = common.adam(generator=2e-4, discriminator=2e-4, b1=0.5, b2=0.999)
    config.evaluation = {
        "samples": 26_000,
        "metrics": ("modes", "frechet"),
        "memorization": False,
        "weights": "raw",
    }
    config.run = common.run(every=5_000, log_every=500)
    rows = {
        "dcgan": {},
        **{f"pacdcgan{m}": {"objective": {"packing": m}} for m in (2, 3, 4)},
        "r3gan": {
            "loss": {"name": "relativistic"},
            "penalties": {"r1": {"weight": 1.0}, "r2": {"weight": 1.0}},
            "discriminator": {"batch_norm": False},
        },
    }
    small = {
        "num_train_steps": 500_000,
        "batch_size": 128,
        "generator_steps": 1,
        "data": {"examples": 1_280_000},
        "gan": {"latent_size": 256},
        "generator": {"widths": (32, 16, 8), "first": 64},
        "optimizers": common.adam(generator=1e-4, discriminator=2e-4, b1=0.5, b2=0.99),
        "evaluation": {"samples": 25_600},
    }
    tiny = common.tiny(
        batch_size=12,
        population=2,
        data={"examples": 64},
        gan={"latent_size": 8},
        generator={"widths": (8, 8), "first": 8},
        discriminator={"widths": (8, 8)},
        evaluation={"reference_count": 200},
    )
    config = common.with_variant(
        config,
        variant,
        **rows,
        half={**small, "discriminator": {"widths": (4, 8, 16)}},
        quarter={**small, "discriminator": {"widths": (2, 4, 8)}},
        tiny=tiny,
    )
    if "tiny" not in variant.split("+"):
        config.batch_size *= config.objective.packing
    return config
