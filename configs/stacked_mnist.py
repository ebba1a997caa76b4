"""Stacked MNIST (Lin et al., 2018, section 4.2): how many of a thousand modes a game finds.

    python -m gaxn.main --config configs/stacked_mnist.py:pacdcgan2 --workdir runs/stacked/pacdcgan2

Rows are variants: dcgan, pacdcgan2, pacdcgan3, pacdcgan4, r3gan (relativistic with R1 and R2, a
discriminator without BatchNorm). `half+` and `quarter+` before them are the small players, whose
discriminator has a half or a quarter of the generator's channels (Metz et al., 2017,
section 3.3.1). Ten seeds are trained at once.

As in the protocol: 128,000 triples of digits, 50 epochs of batches of 64, two turns of the
generator a step, Adam 2e-4 with b1 0.5, 26,000 samples; with small players 500,000 steps of
batches of 128, Adam 2e-4 and 1e-4 with b1 0.5 and b2 0.99, latents of 256, 25,600 samples.
As the authors' code has them: the channels of every map, BatchNorm in both players.
Not as there: kernels of 4x4 (5x5; 3x3 with small players), latents from a Gaussian (uniform in the
large form), a 3x3 convolution from 32 channels at the end of the large generator, LeakyReLU 0.2
(0.3 with small players), no BatchNorm after the first convolution (there is one with small
players), fresh latents in each turn (the same ones there) and only digits of the training set;
small players have 1,280,000 triples (drawn without end there). A batch is of packs, as there.

No row has been run in full; that needs an accelerator. On one CPU core, one seed, a step of
quarter+dcgan takes about 0.09 s, one of dcgan 5 s. After 2,000 steps of quarter+dcgan 204 modes
were counted (reverse KL 3.9) and no digit could be read: a classifier names whatever it is given.
"""

from ml_collections import ConfigDict

from gaxn.schema import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """A row, and in which form, joined by "+"; `tiny` runs in seconds and learns nothing."""
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999}
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 100_000,
            "batch": 64,
            "critic_turns": 1,
            "generator_turns": 2,
            "ema_decay": 0.999,
            "conditional": False,
            "population": 10,
            "parallel": "auto",
            "data": {"name": "stacked_mnist", "directory": "", "examples": 128_000},
            "updates": {"name": "alternating"},
            "game": {"name": "image_gan.ImageGan", "latent": 100},
            "generator": {
                "name": "dcgan.Generator",
                "widths": (256, 128, 64, 32),
                "first": 512,
            },
            "discriminator": {
                "name": "dcgan.Discriminator",
                "widths": (64, 128, 256, 512),
                "batch_norm": True,
            },
            "loss": {"name": "non_saturating"},
            "penalties": {},
            "augmentations": {},
            "objective": {"packing": 1},
            "optimizers": {"generator": dict(adam), "discriminator": dict(adam)},
            "evaluation": {
                "samples": 26_000,
                "metrics": ("modes", "frechet"),
                "memorisation": False,
                "weights": "raw",
            },
            "run": {
                "log_every": 500,
                "sample_every": 5_000,
                "checkpoint_every": 5_000,
                "keep": 3,
                "sample_columns": 8,
            },
        }
    )
    rows = {
        "dcgan": {},
        **{f"pacdcgan{m}": {"objective": {"packing": m}} for m in (2, 3, 4)},
        "r3gan": {
            "loss": {"name": "relativistic"},
            "penalties": {"r1": 1.0, "r2": 1.0},
            "discriminator": {"batch_norm": False},
        },
    }
    small = {
        "steps": 500_000,
        "batch": 128,
        "generator_turns": 1,
        "data": {"examples": 1_280_000},
        "game": {"latent": 256},
        "generator": {"widths": (32, 16, 8), "first": 64},
        "optimizers": {
            "generator": {"learning_rate": 1e-4, "b2": 0.99},
            "discriminator": {"learning_rate": 2e-4, "b2": 0.99},
        },
        "evaluation": {"samples": 25_600},
    }
    half = {**small, "discriminator": {"widths": (4, 8, 16)}}
    quarter = {**small, "discriminator": {"widths": (2, 4, 8)}}
    tiny = {
        "steps": 8,
        "batch": 12,
        "population": 2,
        "data": {"examples": 64},
        "game": {"latent": 8},
        "generator": {"widths": (8, 8), "first": 8},
        "discriminator": {"widths": (8, 8)},
        "evaluation": {"samples": 60, "reference_count": 200},
        "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4},
    }
    config = with_variant(config, variant, {**rows, "half": half, "quarter": quarter, "tiny": tiny})
    if "tiny" not in variant.split("+"):
        config.batch *= config.objective.packing
    return config
