"""R1: the gradient at real images (Mescheder et al., 2018, eq. 9)."""

import jax
import jax.numpy as jnp

from gaxn.penalties import Critic
from gaxn.types import Image, PRNGKey


def penalty(critic: Critic, real: Image, fake: Image, key: PRNGKey) -> jax.Array:
    """1/2 |grad D(x)|^2 of one example, a scalar."""
    return 0.5 * jnp.sum(jnp.square(jax.grad(critic)(real)))
