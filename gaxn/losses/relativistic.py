"""Relativistic pairing loss (Jolicoeur-Martineau, 2019, eq. 2-3; Huang et al., 2024, eq. 2)."""

import flax.linen as nn

from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(x) - D(G(z))), per pair."""
    return nn.softplus(fake - real)


def generator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(G(z)) - D(x)), per pair."""
    return nn.softplus(real - fake)
