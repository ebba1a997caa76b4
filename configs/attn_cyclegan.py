"""Attention CycleGAN on photographs: by default Monet's paintings (A) and photographs (B).

    python -m gaxn.data.tfds cycle_gan/monet2photo
    python -m gaxn.main --config configs/attn_cyclegan.py
    python -m gaxn.main --workdir runs/attn_cyclegan --mode translate --direction b2a \\
        --input photos --output paintings

The first command is needed once. It prepares the data set (trainA 1,072, trainB 6,287, testA 121,
testB 751 images), and needs TensorFlow: `pip install -e '.[tfds]'`.

Variants, joined by "+", the smaller ones last:

    folder     trainA, trainB, testA and testB in a folder or a .zip: --config.data.path=PATH
    leaves     apple leaves, healthy (A) and diseased (B), 128x128, from a .zip with one folder
               per class: --config.data.path=apple_leaves_128.zip
    original   the CycleGAN of the paper: no attention, no spectral norm, no penalty; instance norm
               in the discriminators, least squares, batches of one image (unlike the paper, the
               evaluation uses the moving average of the generators)
    tiny       runs in seconds and learns nothing

Not trained yet: it would take hours on an accelerator. The networks and the recipe are those of
attn_cyclegan_shapes.py, larger.
"""

from typing import Any

import common
from ml_collections import ConfigDict

DISEASES = ("Apple_scab", "Black_rot", "Cedar_apple_rust")


def get_config(variant: str = "") -> ConfigDict:
    """Returns the config of any of the variants above."""
    parts = variant.split("+")
    steps = 20_000 if "leaves" in parts else 120_000
    config = common.cyclegan(num_train_steps=steps, batch_size=4)
    config.data = {"name": "unpaired", **_domains(parts), "size": 256, "enlarge": 286 / 256}
    config.generator = {
        "name": "cyclegan.Generator",
        "width": 64,
        "blocks": 9,
        "attention": True,
        "attention_pool": 2,
        "attention_block": 512,
    }
    config.discriminator = {
        "name": "cyclegan.Discriminator",
        "width": 64,
        "layers": 3,
        "attention": True,
        "instance_norm": False,
    }
    config.loss = {"name": "wasserstein"}
    if "original" not in parts:
        config.penalties = {"wgan_gp": {"weight": 10.0}}
        config.discriminator_steps = 2
    config.optimizers = common.adam(
        generator=2e-4, discriminator=2e-4, b1=0.5, b2=0.999, decay=(0.5, 0.0)
    )
    # Paintings and photographs are for Inception, where its weights are at hand.
    config.evaluation = {"samples": 5_000, "classifier": "leaves" in parts}
    config.run = common.run(every=2_000)
    leaves = {
        "data": {"path": "apple_leaves_128.zip", "size": 128},
        "generator": {"blocks": 6, "attention_block": 0},
    }
    original = {
        "batch_size": 1,
        # The paper's generators minimize the square, our loss is half of it.
        "gan": {"adversarial": 2.0},
        "generator": {"attention": False, "spectral_norm": False},
        "discriminator": {"attention": False, "spectral_norm": False, "instance_norm": True},
        "loss": {"name": "least_squares"},
    }
    tiny = common.tiny(
        batch_size=4,
        discriminator_steps=1,
        data={"size": 16},
        generator={"width": 4, "blocks": 0, "attention_block": 8, "spectral_norm": False},
        discriminator={"width": 4, "layers": 1},
        evaluation={"samples": 20, "classifier": False, "memorization": False},
        run={"sample_columns": 3},
    )
    return common.with_variant(
        config, variant, folder={}, leaves=leaves, original=original, tiny=tiny
    )


def _domains(parts: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the data of the domains A and B."""
    if "folder" in parts:
        return {
            domain.lower(): {
                "name": "folder",
                "train_folder": f"train{domain}",
                "test_folder": f"test{domain}",
            }
            for domain in "AB"
        }
    if "leaves" in parts:
        return {
            "a": {"name": "folder", "classes": ("healthy",)},
            "b": {"name": "folder", "classes": DISEASES},
        }
    return {
        domain.lower(): {
            "name": "tfds",
            "dataset": "cycle_gan/monet2photo",
            "directory": "",
            "label": "",
            "train_split": f"train{domain}",
            "test_split": f"test{domain}",
            "resident_bytes": 2**31,
            "workers": 4,
        }
        for domain in "AB"
    }
