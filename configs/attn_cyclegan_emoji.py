"""Attention CycleGAN on emoji: line art to color and back, never paired in training.

    pip install -e '.[emoji]'
    python -m gaxn.main --config configs/attn_cyclegan_emoji.py

Results (seed 0, one CPU core, about 18 min of its time; it was paused and resumed often). Mean
absolute difference between the translations of 125 test images and the truth, pixels in [0, 1]:

    line to color  0.1010 +- 0.0028   unchanged 0.0689   untrained 0.455   the mean image 0.152
    color to line  0.0758 +- 0.0022   unchanged 0.0689   untrained 0.488   the mean image 0.124

So the unchanged picture is nearer to the truth, both ways: most of it is white, and the lines are
the same. By eye color to line is right but for noise where a color was dark; line to color gives
faces and bells a shaded yellow, and most others brown or stripes. All figures were still falling
(line to color 0.122, 0.104, 0.109 and 0.103 after each 1,000 steps, of 100 images). Cycle: 0.0633
(line) and 0.0704 (color). Next we would try more steps, and `generator.width` of 24.
"""

import common
from ml_collections import ConfigDict

from gaxn.data.emoji import PICTURES


def get_config(variant: str = "") -> ConfigDict:
    """`tiny` runs in seconds and learns nothing."""
    config = common.cyclegan(num_train_steps=4_000, batch_size=8, ema_decay=0.995)
    # The lines of all flags are one rectangle. Each style has its half of the emoji for training.
    emoji = {"name": "emoji", "categories": PICTURES}
    config.data = {
        "name": "unpaired",
        "a": {**emoji, "style": "line", "half": 1},
        "b": {**emoji, "style": "color", "half": 2},
        "size": 32,
        "enlarge": 1.0,
        "paired": True,
    }
    config.generator = {"name": "cyclegan.Generator", "width": 16, "blocks": 2, "attention": True}
    config.discriminator = {
        "name": "cyclegan.Discriminator",
        "width": 16,
        "layers": 2,
        "attention": True,
        "instance_norm": False,
    }
    config.loss = {"name": "wasserstein"}
    config.penalties = {"wgan_gp": {"weight": 10.0}}
    config.optimizers = common.adam(
        generator=5e-4, discriminator=5e-4, b1=0.5, b2=0.9, decay=(0.5, 0.0)
    )
    config.evaluation = {
        "samples": 1_000,
        "classifier": False,
        "every": 1_000,
        "interim_samples": 100,
        "best": "lowest translation/cycle_mae_a",
    }
    config.run = common.run(every=500, log_every=20, columns=10)
    tiny = common.tiny(
        generator={"width": 4, "blocks": 0, "spectral_norm": False},
        discriminator={"width": 4, "layers": 1, "attention": False},
        evaluation={"samples": 20, "every": 4, "interim_samples": 20},
        run={"sample_columns": 3},
    )
    large = {
        "num_train_steps": 40_000,
        "data": {"size": 64, "enlarge": 72 / 64},
        "generator": {"width": 32, "blocks": 6, "attention_pool": 2},
        "discriminator": {"width": 32, "layers": 3},
    }
    return common.with_variant(config, variant, large=large, tiny=tiny)
