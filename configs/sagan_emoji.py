"""Self-attention GAN on emoji, 32x32 RGB, from a data set that pip installs.

    pip install -e '.[emoji]'
    python -m gaxn.main --config configs/sagan_emoji.py

Results of `:group` (seed 0, one CPU core, about 22 min of its time; it was paused and resumed
often), on 1,281 emoji without flags and symbols. By eye: yellow faces with eyes and mouths, heads
with hair and shoulders; of the other categories colored objects with outlines that nobody could
name. No copies (0.0%; 1.0% of unseen real ones). A classifier of the seven categories, which is
right on 0.664 of the 125 test images, says little: accuracy 0.465, Frechet distance 55.1 +- 1.5
(training images 63.5), precision 0.839 and recall 0.704 (0.737 and 0.704).

Results of `:text` (by name; `pip install -e '.[text]'` besides; seed 0, one CPU core while the other
was busy: 41 min, half of it for the network that matches names and pictures and for the
classifier). Of the 125 names of the tests, none of which was seen in training, a sample is matched
to its own among 100 in 0.021 +- 0.002 of cases, by a network that matches real pictures in 0.08;
chance is 0.01. Frechet distance 93.5 +- 3.6 (training images 63.5), precision 0.883 and recall 0.224
(0.737 and 0.704), no copies (0.0%). By eye a name of a face gives a yellow face, and other names a
colored object with an outline; the latent changes shades and edges, hardly the picture. So 1,281
names are too few to learn from what a word looks like; the regularizer `mode_seeking` would be next.

Without `group` and `text` it was not trained yet.
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
