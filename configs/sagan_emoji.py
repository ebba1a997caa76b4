"""Self-attention GAN on emoji, 32x32 RGB, from a data set that pip installs.

    pip install -e '.[emoji]'
    python -m gaxn.main --config configs/sagan_emoji.py

Results (seed 0, one CPU core while the other was busy), on 1,281 emoji without flags and symbols;
distances by a classifier of the seven categories, which is right on 0.664 of the 125 test images,
so they say little; of training images 63.5, with precision 0.737 and recall 0.704:

    no variant            25.7 min   distance 87.0 +- 1.8   precision 0.847   recall 0.704
    `:feature_matching`   21.9 min   distance 82.4 +- 1.9   precision 0.824   recall 0.776
    `:group`              22 min     distance 55.1 +- 1.5   precision 0.839   recall 0.704
    `:text`               41 min     distance 93.5 +- 3.6   precision 0.883   recall 0.224

No copies (0.0%). By eye: yellow faces with eyes and mouths, heads with hair and shoulders; else
colored objects with outlines that nobody could name.

`:feature_matching` looks the same as without it. Its term is 60 to 420, and the adversarial loss
0.8: with a weight of 1 the generator learns from it alone, and the gradient norm is in the hundreds
(Adam takes its scale away). A weight of 0.01 would make both alike; it was not trained.

`:group` (by category) was paused and resumed often. It is right by the classifier in 0.465.

`:text` (by name; `pip install -e '.[text]'` besides): half of its time is for the network that
matches names and pictures and for the classifier. Of the 125 names of the tests, none of which was
seen in training, a sample is matched to its own among 100 in 0.021 +- 0.002 of cases, by a network
that matches real pictures in 0.08; chance is 0.01. A name of a face gives a yellow face, and other
names a colored object; the latent changes shades and edges, hardly the picture. So 1,281 names are
too few to learn from what a word looks like; the regularizer `mode_seeking` would be next.
"""

import common
from ml_collections import ConfigDict

from gaxn.data.emoji import PICTURES


def get_config(variant: str = "") -> ConfigDict:
    """`group` takes categories, `text` the names, `feature_matching` adds that regularizer.

    `tiny` runs in seconds and learns nothing.
    """
    config = common.gan(num_train_steps=5_000, batch_size=32, latent_size=64, ema_decay=0.998)
    # Flags are stripes, and symbols mostly letters; both would look wrong in a mirror.
    config.data = {"name": "emoji", "size": 32, "categories": PICTURES, "flip": True}
    config.generator = {
        "name": "attn_cgan.Generator",
        "widths": (128, 64, 32),
        "attention_at": (16,),
        "attention_pool": 2,
        "spectral_attention": True,
        "modulated": True,
        "coordinates": True,
    }
    config.discriminator = {
        "name": "attn_cgan.Discriminator",
        "widths": (32, 64, 128),
        "attention_at": (8,),
        "attention_pool": 2,
        "hidden": 128,
        "projection": True,
        "spectral_norm": False,
    }
    config.loss = {"name": "relativistic"}
    config.penalties = {"r1": {"weight": 0.5}}
    # The pictures are few: without augmentations the discriminator knows them by heart.
    config.augmentations = {"translation": {}, "cutout": {}}
    config.optimizers = common.adam(
        generator=2e-3, discriminator=1e-3, b1=0.0, b2=0.99, decay=(0.5, 0.05)
    )
    config.evaluation = {"samples": 5_000}
    config.run = common.run(every=500)
    tiny = common.tiny(
        gan={"latent_size": 8},
        generator={"widths": (16, 8, 8)},
        discriminator={"widths": (8, 8, 16), "hidden": 16},
        evaluation={"classifier": False, "memorization": False},
    )
    large = {
        "num_train_steps": 40_000,
        "batch_size": 64,
        "data": {"size": 64},
        "generator": {"widths": (256, 128, 64, 32)},
        "discriminator": {"widths": (32, 64, 128, 256)},
    }
    # Names such as "left arrow" would be wrong in a mirror.
    text = {"conditional": True, "text": {"name": "sentences"}, "data": {"flip": False}}
    return common.with_variant(
        config,
        variant,
        group={"conditional": True},
        text=text,
        feature_matching={"regularizers": {"feature_matching": {"weight": 1.0}}},
        large=large,
        tiny=tiny,
    )
