"""Hinge loss (Lim & Ye, 2017; Miyato et al., 2018, eq. 16-17)."""

import flax.linen as nn

from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), per example."""
    return nn.relu(1 - real) + nn.relu(1 + fake)


def generator(real: Logits, fake: Logits) -> Logits:
    """-D(G(z)), per example."""
    return -fake
