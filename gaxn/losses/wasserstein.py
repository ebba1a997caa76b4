"""Wasserstein loss (Arjovsky et al., 2017, eq. 2-3)."""

from gaxn.types import Logits


def discriminator(real: Logits, fake: Logits) -> Logits:
    """D(G(z)) - D(x), per example."""
    return fake - real


def generator(real: Logits, fake: Logits) -> Logits:
    """-D(G(z)), per example."""
    return -fake
