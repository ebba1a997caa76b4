"""WGAN-GP: unit gradients between real and generated images (Gulrajani et al., 2017, eq. 3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, square_norm
from gaxn.types import Images


def penalty(critic: Critic, real: Images, fake: Images, keys: jax.Array) -> Float[Array, "batch"]:
    """(|grad D(e x + (1 - e) G(z))| - 1)^2 of each pair, with e ~ U(0, 1) by its key."""
    mix = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    square = square_norm(input_gradient(critic, mix * real + (1 - mix) * fake))
    # The root has no derivative at 0; a gradient of exactly 0 counts as constant there.
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return jnp.square(norm - 1)
