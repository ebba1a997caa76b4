"""Self-attention GAN on CelebA, 64x64 (SAGAN; Zhang et al., 2019).

    python -m gaxn.data.tfds celeb_a
    python -m gaxn.main --config configs/sagan_celeba.py

The first command is needed once. It prepares the data set (202,599 faces, 162,770 of them in the
training split and 19,962 in the test split), and needs TensorFlow: `pip install -e '.[tfds]'`.

Not trained yet: CelebA was not at hand. It is tested on mocked data of the same structure, and its
networks and recipe on leaves (sagan_folder.py).

Variants, joined by "+":

    resnet64, resnet128   the paper's residual networks at 64x64 and 128x128: spectral norm in
                          both players, conditional BatchNorm and projection where there are
                          labels, learning rates of 1e-4 and 4e-4 (TTUR)
    conditional           conditioned on an attribute, by default Smiling:
                          --config.data.label=attributes/Male
    multi_scale           two discriminators, the second at half the resolution
    wgan_gp, r1           Wasserstein with gradient penalty, five discriminator steps; hinge
                          with R1
    bfloat16              activations and products in bfloat16
    tiny                  runs in seconds and learns nothing

To fit less memory: --config.accumulation_steps=4 (a batch in four micro-batches), and `remat` and
`attention_block` of either player.
"""

import common
from ml_collections import ConfigDict

from gaxn.models.sagan_resnet import published_networks


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of any of the variants above, the smaller ones last."""
    config = common.gan(num_train_steps=100_000, batch_size=64, latent_size=128, ema_decay=0.9999)
    config.data = {
        "name": "tfds",
        "dataset": "celeb_a",
        "label": "",
        "size": 64,
        "crop": 178,
        # The training split takes 2.0 GB at 64x64, which leaves 7% to spare.
        "resident_bytes": 2**31,
        "workers": 4,
    }
    config.generator = {
        "name": "sagan.Generator",
        "first": 256,
        "widths": (128, 64),
        "attention_at": (16,),
    }
    config.discriminator = {
        "name": "sagan.Discriminator",
        "widths": (64, 128, 256),
        "attention_at": (16,),
    }
    config.loss = {"name": "hinge"}
    config.optimizers = common.adam(generator=1e-4, discriminator=1e-4, b1=0.0, b2=0.9)
    config.evaluation = {"samples": 50_000}
    config.run = common.run(every=5_000, log_every=100)
    ttur = {"optimizers": {"discriminator": {"learning_rate": 4e-4}}}
    return common.with_variant(
        config,
        variant,
        resnet64={**published_networks(64), **ttur},
        resnet128={**published_networks(128), **ttur, "data": {"size": 128}},
        conditional={"conditional": True, "data": {"label": "attributes/Smiling"}},
        multi_scale={"discriminator": {"scales": 2}},
        wgan_gp={
            "discriminator_steps": 5,
            "loss": {"name": "wasserstein"},
            "penalties": {"wgan_gp": {"weight": 10.0}},
            "discriminator": {"spectral_norm": False},
        },
        r1={"penalties": {"r1": {"weight": 1.0}}},
        bfloat16={"dtype": "bfloat16"},
        tiny=common.tiny(
            data={"size": 32, "workers": 0},
            gan={"latent_size": 8},
            generator={"first": 16, "widths": (16, 8), "attention_at": (16,)},
            discriminator={"widths": (8, 16, 16), "attention_at": (16,)},
            evaluation={"memorization": False},
        ),
    )
