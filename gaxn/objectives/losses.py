"""Adversarial losses: one function per loss, whose parameters are its options in a config.

A `Loss` takes the logits of real and generated images, float [batch, ...], paired by position, and
returns one value per logit, of the same shape; the objective averages over an example's scales and
patches. s is the logistic function.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaxn.distributed import axis
from gaxn.types import InputError, Logits, check


class Loss(NamedTuple):
    """An adversarial loss.

    Attributes:
        discriminator, generator: its two sides, each (real logits, fake logits) -> values.
        depends_on_differences: whether only differences of logits matter, so that their signs mean
            nothing.
        decision_threshold: the discriminator takes an image for real if its logit is above it: the
            value halfway between the logits of real and of generated images.
    """

    discriminator: Callable[[Logits, Logits], Logits]
    generator: Callable[[Logits, Logits], Logits]
    depends_on_differences: bool = False
    decision_threshold: float = 0.0


def check_loss(loss: Loss) -> None:
    """Raises an InputError unless both sides return one value per logit."""
    logits = jax.ShapeDtypeStruct((3,), jnp.float32)
    for side in ("discriminator", "generator"):
        function = getattr(loss, side)
        try:
            shape = jax.eval_shape(function, logits, logits).shape
        except (TypeError, AttributeError) as error:
            raise InputError(f"loss has a {side} side that fails: {error}") from None
        check(
            f"loss of the {side}", shape, shape == (3,), "of shape (3,) for 3 logits of each kind"
        )


def minimax() -> Loss:
    """Original zero-sum loss (Goodfellow et al., 2014, eq. 1).

    L_D = -log s(D(x)) - log(1 - s(D(G(z)))),   L_G = log(1 - s(D(G(z))))

    L_G saturates where the discriminator is certain.
    """
    return Loss(
        discriminator=lambda real, fake: nn.softplus(-real) + nn.softplus(fake),
        generator=lambda real, fake: -nn.softplus(fake),
    )


def non_saturating(real_target: float = 1.0) -> Loss:
    """Non-saturating loss (Goodfellow et al., 2014, section 3).

    L_D = -t log s(D(x)) - (1 - t) log(1 - s(D(x))) - log(1 - s(D(G(z)))),   L_G = -log s(D(G(z)))

    Args:
        real_target: the target t of real images, in (0, 1]; below 1 it is one-sided label
            smoothing (Salimans et al., 2016, section 3.4).
    """
    check("real_target", real_target, 0 < real_target <= 1, "above 0 and at most 1")

    def discriminator(real: Logits, fake: Logits) -> Logits:
        targets = real_target * nn.softplus(-real) + (1 - real_target) * nn.softplus(real)
        return targets + nn.softplus(fake)

    return Loss(discriminator, generator=lambda real, fake: nn.softplus(-fake))


def least_squares() -> Loss:
    """Least squares, with targets 1 and 0 (Mao et al., 2017, eq. 9).

    L_D = ((D(x) - 1)^2 + D(G(z))^2) / 2,   L_G = (D(G(z)) - 1)^2 / 2
    """
    return Loss(
        discriminator=lambda real, fake: (jnp.square(real - 1) + jnp.square(fake)) / 2,
        generator=lambda real, fake: jnp.square(fake - 1) / 2,
        decision_threshold=0.5,
    )


def hinge() -> Loss:
    """Hinge loss (Lim & Ye, 2017; Miyato et al., 2018, eq. 16-17).

    L_D = relu(1 - D(x)) + relu(1 + D(G(z))),   L_G = -D(G(z))
    """
    return Loss(
        discriminator=lambda real, fake: nn.relu(1 - real) + nn.relu(1 + fake),
        generator=lambda real, fake: -fake,
    )


def wasserstein() -> Loss:
    """Wasserstein loss (Arjovsky et al., 2017, eq. 2-3).

    L_D = D(G(z)) - D(x),   L_G = -D(G(z))
    """
    return Loss(
        discriminator=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
        depends_on_differences=True,
    )


def relativistic() -> Loss:
    """Relativistic pairing loss (Jolicoeur-Martineau, 2019, eq. 2-3; Huang et al., 2024, eq. 2).

    L_D = -log s(D(x) - D(G(z))),   L_G = -log s(D(G(z)) - D(x))
    """
    return Loss(
        discriminator=lambda real, fake: nn.softplus(fake - real),
        generator=lambda real, fake: nn.softplus(real - fake),
        depends_on_differences=True,
    )


def relativistic_average() -> Loss:
    """Relativistic average loss (Jolicoeur-Martineau, 2019, RaSGAN).

    L_D = -log s(D(x) - mean D(G(z))) - log(1 - s(D(G(z)) - mean D(x))), means over the global
    batch and the places of a map; L_G has real and generated images exchanged. Each scale of a
    discriminator, in logits [batch, scales], has means of its own.
    """

    def mean(logits: Logits) -> jax.Array:
        return axis.mean_over_devices(logits.mean(axis=0 if logits.ndim == 2 else None))

    def discriminator(real: Logits, fake: Logits) -> Logits:
        mean_real, mean_fake = mean(real), mean(fake)
        return nn.softplus(mean_fake - real) + nn.softplus(fake - mean_real)

    return Loss(
        discriminator, lambda real, fake: discriminator(fake, real), depends_on_differences=True
    )
