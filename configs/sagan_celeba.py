"""The self-attention GAN on CelebA, 64x64 (SAGAN; Zhang et al., 2019).

    python -m gaxn.data.tfds celeb_a
    python -m gaxn.main --config configs/sagan_celeba.py

The first line, once, prepares the data set (202,599 faces, of which the training split has
162,770 and the test split 19,962), and needs TensorFlow: `pip install -e '.[tfds]'`.

Not trained yet: there was no CelebA where this was written. It is tested on mocked data of the same
structure, and its networks and recipe on leaves (sagan_folder.py).

Variants, joined by "+":

    resnet64, resnet128   the paper's residual networks at 64x64 and 128x128: spectral norm in
                          both players, conditional BatchNorm and projection where there are
                          labels, learning rates of 1e-4 and 4e-4 (TTUR)
    conditional           conditioned on an attribute, by default Smiling:
                          --config.data.label=attributes/Male
    multi_scale           two discriminators, the second at half the resolution
    wgan_gp, r1           Wasserstein with gradient penalty, five critic turns a step; hinge
                          with R1
    bfloat16              activations and products in bfloat16
    tiny                  runs in seconds and learns nothing

Large ones fit less memory by --config.accumulate=4 (a batch in four parts), `remat` and
`attention_block` of either player.
"""

from ml_collections import ConfigDict

from gaxn.models.sagan_resnet import paper
from gaxn.schema import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """Any of the variants above, the smaller ones last."""
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 100_000,
            "batch": 64,
            "critic_turns": 1,
            "ema_decay": 0.9999,
            "conditional": False,
            "accumulate": 1,
            "dtype": "float32",
            "parallel": "auto",
            "data": {
                "name": "tfds",
                "dataset": "celeb_a",
                "directory": "",
                "label": "",
                "size": 64,
                "crop": 178,
                # What the training split takes at 64x64, with 7% to spare.
                "resident_bytes": 2**31,
                "workers": 4,
            },
            "updates": {"name": "alternating"},
            "game": {"name": "image_gan.ImageGan", "latent": 128},
            "generator": {
                "name": "sagan.Generator",
                "first": 256,
                "widths": (128, 64),
                "attention_at": (16,),
                "attention_block": 0,
                "remat": False,
            },
            "discriminator": {
                "name": "sagan.Discriminator",
                "widths": (64, 128, 256),
                "attention_at": (16,),
                "attention_block": 0,
                "scales": 1,
                "remat": False,
            },
            "loss": {"name": "hinge"},
            "penalties": {},
            "augmentations": {},
            "optimizers": {
                "generator": {"name": "adam", "learning_rate": 1e-4, "b1": 0.0, "b2": 0.9},
                "discriminator": {"name": "adam", "learning_rate": 1e-4, "b1": 0.0, "b2": 0.9},
            },
            "evaluation": {"samples": 50_000},
            "run": {
                "log_every": 100,
                "sample_every": 5_000,
                "checkpoint_every": 5_000,
                "keep": 3,
                "sample_columns": 8,
            },
        }
    )
    ttur = {"optimizers": {"discriminator": {"learning_rate": 4e-4}}}
    variants = {
        "resnet64": {**paper(64), **ttur},
        "resnet128": {**paper(128), **ttur, "data": {"size": 128}},
        "conditional": {"conditional": True, "data": {"label": "attributes/Smiling"}},
        "multi_scale": {"discriminator": {"scales": 2}},
        "wgan_gp": {
            "critic_turns": 5,
            "loss": {"name": "wasserstein"},
            "penalties": {"wgan_gp": 10.0},
            "discriminator": {"spectral_norm": False},
        },
        "r1": {"penalties": {"r1": 1.0}},
        "bfloat16": {"dtype": "bfloat16"},
        "tiny": {
            "steps": 8,
            "batch": 8,
            "data": {"size": 32, "workers": 0},
            "game": {"latent": 8},
            "generator": {"first": 16, "widths": (16, 8), "attention_at": (16,)},
            "discriminator": {"widths": (8, 16, 16), "attention_at": (16,)},
            "evaluation": {"samples": 60, "memorisation": False},
            "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4},
        },
    }
    return with_variant(config, variant, variants)
