"""DRAGAN: unit gradients around real images (Kodali et al., 2017, section 2.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, norm
from gaxn.types import Images, require


def penalty(
    critic: Critic, real: Images, fake: Images, keys: jax.Array, *, deviation: float = 0.5
) -> Float[Array, "batch"]:
    """(|grad D(x + d)| - 1)^2 of each example, with d ~ N(0, deviation^2 I) by its key.

    Raises:
        InputError: `deviation` is below 0.
    """
    require("deviation", deviation, deviation >= 0, "0 or more")
    noise = jax.vmap(lambda key: jax.random.normal(key, real.shape[1:], real.dtype))(keys)
    return jnp.square(norm(input_gradient(critic, real + deviation * noise)) - 1)
