"""Least squares: targets 1 for real images, 0 for generated ones (Mao et al., 2017, eq. 9)."""

import jax.numpy as jnp

from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """(D(x) - 1)^2 / 2 + D(G(z))^2 / 2, per example."""
    return (jnp.square(real - 1) + jnp.square(fake)) / 2


def generator(real: Logits, fake: Logits) -> Logits:
    """(D(G(z)) - 1)^2 / 2, per example."""
    return jnp.square(fake - 1) / 2
