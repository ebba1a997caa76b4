"""A penalty: R1 by a finite difference, for discriminators too large for a second derivative."""

import jax
import jax.numpy as jnp

from gaxn.objectives.penalties import Discriminator, Penalty, Values
from gaxn.types import Images, check


def approximate_r1(weight: float, interval: int = 1, deviation: float = 0.01) -> Penalty:
    """(D(x) - D(x + d))^2 at real images, d ~ N(0, deviation^2 I) (Lin et al., 2025).

    Its mean is about deviation^2 |grad D(x)|^2: R1 with the weight 2 weight deviation^2.

    Args:
        weight, interval: as for every penalty.
        deviation: of the noise in each number of an image, above 0.
    """
    check("weight", weight, weight >= 0, "0 or more")
    check("interval", interval, interval >= 1, "1 step or more")
    check("deviation", deviation, deviation > 0, "above 0")

    def values(D: Discriminator, real: Images, fake: Images, keys: jax.Array) -> Values:
        noise = jax.vmap(lambda key: jax.random.normal(key, real.shape[1:], real.dtype))(keys)
        return jnp.square(D(real) - D(real + deviation * noise))

    return Penalty(values, weight, interval)
