"""The attention CycleGAN on photographs: by default Monet's paintings (A) and photographs (B).

    python -m gaxn.data.tfds cycle_gan/monet2photo
    python -m gaxn.main --config configs/attn_cyclegan.py
    python -m gaxn.main --workdir runs/attn_cyclegan --mode translate --direction b2a \\
        --input photos --output paintings

The first line, once, prepares the data set (trainA 1,072, trainB 6,287, testA 121, testB 751
images), and needs TensorFlow: `pip install -e '.[tfds]'`.

Variants, joined by "+", the smaller ones last:

    folder     trainA, trainB, testA and testB in a folder or a .zip: --config.data.path=PATH
    leaves     apple leaves, healthy (A) and diseased (B), 128x128, from a .zip with a folder a
               class: --config.data.path=apple_leaves_128.zip
    original   the CycleGAN of the paper: no attention, no spectral norm, no penalty; instance norm
               in the critics, least squares, one image a batch (besides: it takes a running mean
               of its generators to evaluate)
    tiny       runs in seconds and learns nothing

Not trained yet on either: neither Monet's paintings nor an accelerator were at hand. The networks
and the recipe are those of attn_cyclegan_shapes.py, larger.
"""

from ml_collections import ConfigDict

from gaxn.schema import with_variant

DISEASES = ("Apple_scab", "Black_rot", "Cedar_apple_rust")


def _domains(parts: list[str]) -> dict[str, dict]:
    """Where the images of A and B are."""
    if "folder" in parts:
        return {
            name: {"name": "folder", "train_folder": f"train{own}", "test_folder": f"test{own}"}
            for name, own in (("a", "A"), ("b", "B"))
        }
    if "leaves" in parts:
        leaves = {"name": "folder", "test_share": 0.1}
        return {"a": {**leaves, "classes": ("healthy",)}, "b": {**leaves, "classes": DISEASES}}
    monet = {"name": "tfds", "dataset": "cycle_gan/monet2photo", "directory": "", "label": ""}
    monet["resident_bytes"] = 2**31
    return {
        name: {**monet, "train_split": f"train{own}", "test_split": f"test{own}", "workers": 4}
        for name, own in (("a", "A"), ("b", "B"))
    }


def get_config(variant: str = "") -> ConfigDict:
    """Any of the variants above."""
    parts = variant.split("+")
    steps = 20_000 if "leaves" in parts else 120_000
    critic_turns = 1 if "original" in parts else 2

    def player(turns: int) -> dict:
        # Linearly to 0 over the second half; of the player's own turns.
        decay = {"begin": turns * steps // 2, "end": turns * steps, "to": 0.0}
        return {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999, "decay": decay}

    config = ConfigDict(
        {
            "seed": 0,
            "steps": steps,
            "batch": 4,
            "critic_turns": critic_turns,
            "ema_decay": 0.999,
            "conditional": False,
            "accumulate": 1,
            "parallel": "auto",
            "data": {
                "name": "unpaired",
                **_domains(parts),
                "path": "",
                "size": 256,
                "enlarge": 286 / 256,
                "paired": False,
            },
            "updates": {"name": "alternating"},
            "game": {
                "name": "cyclegan.cyclegan",
                "adversarial": 1.0,
                "cycle": 10.0,
                "identity": 5.0,
                "history": 50,
                "mirror": True,
            },
            "generator": {
                "name": "cyclegan.Generator",
                "width": 64,
                "blocks": 9,
                "attention": True,
                "attention_pool": 2,
                "attention_block": 512,
                "spectral_norm": True,
                "instance_norm": True,
            },
            "discriminator": {
                "name": "cyclegan.Discriminator",
                "width": 64,
                "layers": 3,
                "attention": True,
                "spectral_norm": True,
                "instance_norm": False,
                "dropout": 0.0,
            },
            "loss": {"name": "wasserstein"},
            "penalties": {} if "original" in parts else {"wgan_gp": 10.0},
            "augmentations": {},
            "optimizers": {"generator": player(1), "discriminator": player(critic_turns)},
            # Paintings and photographs are for Inception, where its weights are at hand.
            "evaluation": {"samples": 5_000, "classifier": "leaves" in parts, "inception": ""},
            "run": {
                "log_every": 50,
                "sample_every": 2_000,
                "checkpoint_every": 2_000,
                "keep": 3,
                "sample_columns": 8,
            },
        }
    )
    variants = {
        "folder": {},
        "leaves": {
            "data": {"path": "apple_leaves_128.zip", "size": 128},
            "generator": {"blocks": 6, "attention_block": 0},
        },
        "original": {
            "batch": 1,
            # The paper's generators minimise the whole square, our loss has its half.
            "game": {"adversarial": 2.0},
            "generator": {"attention": False, "spectral_norm": False},
            "discriminator": {"attention": False, "spectral_norm": False, "instance_norm": True},
            "loss": {"name": "least_squares"},
        },
        "tiny": {
            "steps": 8,
            "batch": 4,
            "critic_turns": 1,
            "data": {"size": 16},
            "generator": {"width": 4, "blocks": 0, "attention_block": 8, "spectral_norm": False},
            "discriminator": {"width": 4, "layers": 1},
            "evaluation": {"samples": 20, "classifier": False, "memorisation": False},
            "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4, "sample_columns": 3},
        },
    }
    return with_variant(config, variant, variants)
