"""The blocks that configs share; every function returns new dicts.

A config starts from `gan` or `cyclegan`, adds what is special about its experiment, and ends with
`with_variant`.
"""

from typing import Any

from ml_collections import ConfigDict

import gaxn.config


def gan(
    *, num_train_steps: int, batch_size: int, latent_size: int, ema_decay: float = 0.999
) -> ConfigDict:
    """Returns the start of a GAN's config; samples are by the generator's moving average."""
    return ConfigDict(
        {
            "seed": 0,
            "num_train_steps": num_train_steps,
            "batch_size": batch_size,
            "ema_decay": ema_decay,
            "gan": {"name": "gan.GAN", "latent_size": latent_size},
        }
    )


def cyclegan(*, num_train_steps: int, batch_size: int, ema_decay: float = 0.999) -> ConfigDict:
    """Returns the start of a CycleGAN's config."""
    return ConfigDict(
        {
            "seed": 0,
            "num_train_steps": num_train_steps,
            "batch_size": batch_size,
            "ema_decay": ema_decay,
            "gan": {
                "name": "cyclegan.CycleGAN",
                "adversarial": 1.0,
                "cycle": 10.0,
                "identity": 5.0,
                "history": 50,
                "mirror": True,
            },
        }
    )


def adam(
    *,
    generator: float,
    discriminator: float,
    decay: tuple[float, float] | None = None,
    **options: float,
) -> dict[str, dict[str, Any]]:
    """Returns the optimizers of both players: Adam with a learning rate each, and options.

    Args:
        generator: learning rate.
        discriminator: learning rate.
        decay: (begin, factor): the rates decay linearly from step begin * num_train_steps to the
            end of the run, to factor times themselves; None for constant rates.
        options: `b1` and `b2`.
    """
    rates = {"generator": generator, "discriminator": discriminator}
    return {
        player: {
            "name": "adam",
            "learning_rate": rate if decay is None else linear_decay(rate, *decay),
        }
        | options
        for player, rate in rates.items()
    }


def linear_decay(value: float, begin: float, factor: float) -> dict[str, Any]:
    """Returns the schedule of a linear decay, from the share `begin` of the run to its end."""
    return {"name": "linear", "points": ((begin, value), (1.0, factor * value))}


def run(*, every: int, log_every: int = 50, columns: int = 8) -> dict[str, int]:
    """Returns the intervals of a run, in steps: samples and checkpoints at `every`."""
    return {
        "log_every": log_every,
        "sample_every": every,
        "checkpoint_every": every,
        "keep": 3,
        "sample_columns": columns,
    }


def tiny(**fields: Any) -> ConfigDict:
    """Returns the fields of the smallest form: 8 steps that take seconds and teach nothing."""
    config = ConfigDict(
        {
            "num_train_steps": 8,
            "batch_size": 8,
            "evaluation": {"samples": 60},
            "run": {"log_every": 2, "sample_every": 4, "checkpoint_every": 4},
        }
    )
    config.update(ConfigDict(fields))
    return config


def with_variant(config: ConfigDict, variant: str, **variants: Any) -> ConfigDict:
    """Returns the config after each of the variants in `variant`, which "+" joins, in order."""
    return gaxn.config.with_variant(config, variant, variants)
