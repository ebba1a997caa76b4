"""Relativistic average loss (Jolicoeur-Martineau, 2019, RaSGAN).

Each logit is held against the mean of the other side over the global batch.
"""

import flax.linen as nn

from gaxn import axis
from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(x) - mean D(G(z))) - log(1 - s(D(G(z)) - mean D(x))), per example."""
    return nn.softplus(_mean(fake) - real) + nn.softplus(fake - _mean(real))


def generator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(G(z)) - mean D(x)) - log(1 - s(D(x) - mean D(G(z)))), per example."""
    return discriminator(fake, real)


def _mean(logits: Logits) -> Logits:
    return axis.mean_over_devices(logits.mean())
