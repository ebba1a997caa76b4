"""Attention CycleGAN on shapes in two styles, never paired in training, paired in the test.

    python -m gaxn.main --config configs/attn_cyclegan_shapes.py

Results (seed 0, 2 CPU cores, most of the time shared with other work): 25 min; on a quiet
machine a step takes 0.12 s, which makes 16 min. Mean absolute difference between
the translations of 1,000 test images and the truth, pixels in [0, 1]:

    A to B  0.0172 +- 0.0001   unchanged 0.812   untrained 0.450   the mean image of B 0.102
    B to A  0.0352 +- 0.0003   unchanged 0.812   untrained 0.407   the mean image of A 0.094

Cycle: 0.0114 (A) and 0.0117 (B), falling to the end. Outlines are right after 1,000 steps. Hues
from A to B are right, too; from B to A all shapes have nearly one orange, in which that generator
hides the hue that the cycle needs. The discriminators hardly tell real from generated images (their
logits differ by 0.1, with slopes near 1), so more discriminator steps are what we would try next.
Gammas went from 0 to 0.27 and -0.35 in the generators, whose attention becomes narrow (entropy 0.16
and 0.20 of uniform), and to 0.31 and 0.75 in the discriminators (0.91 and 0.95).

`:perceptual`, LPIPS beside the mean absolute difference of the cycle (3,000 steps by both, on one
core while the other was busy; 0.58 and 0.17 s a step, 34.5 and 12.7 min with the evaluation):

    --config.num_train_steps=3000         A to B 0.0286, LPIPS 0.119   B to A 0.0497, LPIPS 0.345
    the same without `:perceptual`        A to B 0.0305, LPIPS 0.196   B to A 0.0489, LPIPS 0.395

LPIPS of the cycle: 0.076 (A) and 0.034 (B); without 0.235 and 0.095. By eye corners are truer with
it, and hues worse: the cycle gives all shapes one orange. In its time the plain run makes all of
its 8,000 steps, and has the lower differences above.

Before version 0.3 spectral norm took the kernels of the transposed convolutions by their inputs:
0.0299 and 0.0278, cycle 0.0124 and 0.0171; then the hues of B to A were right, and those of A to B
were not. Both are one seed.

Tried on the way, one thing at a time: two discriminator steps with discriminators twice as wide,
0.47 s a step instead of 0.23 (not trained to the end); no instance norm in the generators: 0.094
after 1,500 steps instead of 0.042.
"""

import common
from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """`perceptual` adds LPIPS to the cycle; `tiny` runs in seconds and learns nothing."""
    config = common.cyclegan(num_train_steps=8_000, batch_size=8, ema_decay=0.995)
    config.data = {
        "name": "unpaired",
        "a": {"name": "shapes", "style": "warm"},
        "b": {"name": "shapes", "style": "cool"},
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
        "interim_samples": 200,
        "best": "lowest translation/cycle_mae_a",
    }
    config.run = common.run(every=500, log_every=20, columns=10)
    tiny = common.tiny(
        generator={"width": 4, "blocks": 0, "spectral_norm": False},
        discriminator={"width": 4, "layers": 1, "attention": False},
        evaluation={"samples": 20, "every": 4, "interim_samples": 20},
        run={"sample_columns": 3},
    )
    # Besides the mean absolute difference. It needs `pip install -e '.[perceptual]'`.
    lpips = {"extractor": {"name": "vgg"}, "weight": 5.0, "identity": 0.0}
    perceptual = {"regularizers": {"perceptual": lpips}, "evaluation": {"lpips": "package"}}
    return common.with_variant(config, variant, perceptual=perceptual, tiny=tiny)
