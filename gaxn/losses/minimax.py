"""The original zero-sum loss on logits (Goodfellow et al., 2014, eq. 1)."""

import flax.linen as nn

from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(x)) - log(1 - s(D(G(z)))), per example."""
    return nn.softplus(-real) + nn.softplus(fake)


def generator(real: Logits, fake: Logits) -> Logits:
    """log(1 - s(D(G(z)))), per example; saturates where the discriminator is sure."""
    return -nn.softplus(fake)
