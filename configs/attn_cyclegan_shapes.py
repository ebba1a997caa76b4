"""The attention CycleGAN on shapes in two styles, never paired in training, paired in the test.

python -m gaxn.main --config configs/attn_cyclegan_shapes.py
"""

from ml_collections import ConfigDict

from gaxn.schema import with_variant


def get_config(variant: str = "") -> ConfigDict:
    """`tiny` runs in seconds and learns nothing."""
    steps = 8_000
    # Linearly to 0 over the second half.
    decay = {"begin": steps // 2, "end": steps, "to": 0.0}
    adam = {"name": "adam", "learning_rate": 5e-4, "b1": 0.5, "b2": 0.9, "decay": decay}
    config = ConfigDict(
        {
            "seed": 0,
            "steps": steps,
            "batch": 8,
            "critic_turns": 1,
            "ema_decay": 0.995,
            "conditional": False,
            "parallel": "auto",
            "data": {
                "name": "unpaired",
                "a": {"name": "shapes", "style": "warm"},
                "b": {"name": "shapes", "style": "cool"},
                "size": 32,
                "enlarge": 1.0,
                "paired": True,
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
                "width": 16,
                "blocks": 2,
                "attention": True,
                "spectral_norm": True,
                "instance_norm": True,
            },
            "discriminator": {
                "name": "cyclegan.Discriminator",
                "width": 16,
                "layers": 2,
                "attention": True,
                "spectral_norm": True,
                "instance_norm": False,
                "dropout": 0.0,
            },
            "loss": {"name": "wasserstein"},
            "penalties": {"wgan_gp": 10.0},
            "augmentations": {},
            "optimizers": {"generator": {**adam}, "discriminator": {**adam}},
            "evaluation": {
                "samples": 1_000,
                "classifier": False,
                "every": 1_000,
                "interim_samples": 200,
                "best": "lowest translation/cycle_mae_a",
            },
            "run": {
                "log_every": 20,
                "sample_every": 500,
                "checkpoint_every": 500,
                "keep": 3,
                "sample_columns": 10,
            },
        }
    )
    tiny = {
        "steps": 8,
        "generator": {"width": 4, "blocks": 1},
        "discriminator": {"width": 4},
        "evaluation": {"samples": 20, "every": 4, "interim_samples": 20},
        "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4, "sample_columns": 3},
    }
    return with_variant(config, variant, {"tiny": tiny})
