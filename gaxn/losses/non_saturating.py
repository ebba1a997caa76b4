"""Non-saturating loss on logits (Goodfellow et al., 2014, section 3)."""

import flax.linen as nn

from gaxn.types import Logits, require


def discriminator(real: Logits, fake: Logits, *, real_target: float = 1.0) -> Logits:
    """-t log s(D(x)) - (1 - t) log(1 - s(D(x))) - log(1 - s(D(G(z)))), per example.

    Args:
        real: logits of real images.
        fake: logits of generated images.
        real_target: the target t of real images in (0, 1]; below 1 it is one-sided label
            smoothing (Salimans et al., 2016, section 3.4).

    Raises:
        InputError: `real_target` is out of range.
    """
    require("real_target", real_target, 0 < real_target <= 1, "0 < real_target <= 1")
    return (
        real_target * nn.softplus(-real) + (1 - real_target) * nn.softplus(real) + nn.softplus(fake)
    )


def generator(real: Logits, fake: Logits) -> Logits:
    """-log s(D(G(z))), per example."""
    return nn.softplus(-fake)
