"""Self-attention GAN on emoji that grows: 8x8, 16x16, 32x32 (Karras et al., 2018).

    pip install -e '.[emoji]'
    python -m gaxn.main --config configs/grown_sagan_emoji.py

Variants, joined by "+": `residual` (residual networks), `large` (64x64), `group` (by category),
`tiny` (seconds; learns nothing), `at_once` (the same networks and images seen, without growing).

Results (seed 0, one CPU core while the other was busy), with pictures in docs/results.md:

    grown     35.8 min   Frechet distance 54.7 +- 1.6   precision 0.850   recall 0.688
    at_once   46.5 min   Frechet distance 82.5 +- 2.8   precision 0.839   recall 0.720

The distance is by a classifier of the seven categories on 125 test images (training images 63.5,
0.737 and 0.704): it says little, and each row is one seed. No copies (0.0%). By eye both draw
yellow faces, heads with shoulders, and objects that nobody could name; those of `at_once` have
flatter colors and plainer outlines, those that grew more shades. At 8x8 there are blobs of the
right colors after 1,000 steps, at 16x16 faces and heads can be told after 2,500, and outlines come
at 32x32.
"""

import common
from ml_collections import ConfigDict

from gaxn.data.emoji import PICTURES


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of any of the variants above, `at_once` last."""
    config = common.gan(num_train_steps=8_000, batch_size=32, latent_size=64, ema_decay=0.998)
    config.data = {"name": "emoji", "size": 32, "categories": PICTURES, "flip": True}
    config.generator = {
        "name": "sagan.Generator",
        "first": 256,
        "widths": (128, 64),
        "attention_at": (16,),
        "attention_pool": 2,
    }
    config.discriminator = {
        "name": "sagan.Discriminator",
        "widths": (64, 128, 256),
        "attention_at": (8,),
        "attention_pool": 2,
        "spectral_norm": False,
    }
    config.growing = {"resolutions": (8, 16, 32), "steps": (1_000, 2_000), "fade_steps": 1_000}
    config.loss = {"name": "relativistic"}
    config.penalties = {"r1": {"weight": 0.5}}
    # The pictures are few: without augmentations the discriminator knows them by heart.
    config.augmentations = {"translation": {}, "cutout": {}}
    config.optimizers = common.adam(
        generator=1e-3, discriminator=1e-3, b1=0.0, b2=0.99, decay=(0.5, 0.05)
    )
    config.evaluation = {"samples": 5_000}
    config.run = common.run(every=500)
    residual = {
        "generator": {"name": "sagan_resnet.Generator", "widths": (256, 128, 64)},
        "discriminator": {"name": "sagan_resnet.Discriminator", "last": 256},
    }
    large = {
        "num_train_steps": 40_000,
        "batch_size": 64,
        "data": {"size": 64},
        "generator": {"widths": (256, 128, 64)},
        "discriminator": {"widths": (32, 64, 128, 256), "attention_at": (16,)},
        "growing": {
            "resolutions": (8, 16, 32, 64),
            "steps": (4_000, 8_000, 8_000),
            "fade_steps": 4_000,
        },
    }
    tiny = common.tiny(
        gan={"latent_size": 8},
        generator={"first": 16, "widths": (16, 8)},
        discriminator={"widths": (8, 8, 16)},
        growing={"steps": (1, 2), "fade_steps": 1},
        evaluation={"classifier": False, "memorization": False},
    )
    return common.with_variant(
        config,
        variant,
        residual=residual,
        large=large,
        group={"conditional": True},
        tiny=tiny,
        at_once={"growing": {"resolutions": (), "steps": (), "fade_steps": 0}},
    )
