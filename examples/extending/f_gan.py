"""A loss: the variational bound of an f-divergence (f-GAN; Nowozin et al., 2016)."""

import flax.linen as nn
import jax.numpy as jnp

from gaxn.objectives.losses import Loss
from gaxn.types import check

DIVERGENCES = {
    "kl": (lambda v: v, lambda v: jnp.exp(v - 1)),
    "reverse_kl": (lambda v: -jnp.exp(-v), lambda v: v - 1),
    "pearson": (lambda v: v, lambda v: v**2 / 4 + v),
    "squared_hellinger": (lambda v: -jnp.expm1(-v), jnp.expm1),
    "jensen_shannon": (
        lambda v: jnp.log(2) - nn.softplus(-v),
        lambda v: nn.softplus(v) - jnp.log(2),
    ),
}
"""Of D_f(data || samples): an output activation g, and f*(g(v)) of the convex conjugate f*."""


def f_gan(divergence: str = "pearson") -> Loss:
    """L_D = f*(g(D(G(z)))) - g(D(x)),   L_G = -f*(g(D(G(z)))); the least mean L_D is -D_f."""
    check("divergence", divergence, divergence in DIVERGENCES, " or ".join(DIVERGENCES))
    activation, conjugate = DIVERGENCES[divergence]
    return Loss(
        discriminator=lambda real, fake: conjugate(fake) - activation(real),
        generator=lambda real, fake: -conjugate(fake),
    )
