"""WGAN-GP: unit gradients between real and generated images (Gulrajani et al., 2017, eq. 3)."""

import jax
import jax.numpy as jnp

from gaxn.penalties import Critic
from gaxn.types import Image, PRNGKey


def penalty(critic: Critic, real: Image, fake: Image, key: PRNGKey) -> jax.Array:
    """(|grad D(e x + (1 - e) G(z))| - 1)^2 of one pair with e ~ U(0, 1), a scalar."""
    mix = jax.random.uniform(key)
    gradient = jax.grad(critic)(mix * real + (1 - mix) * fake)
    return jnp.square(_norm(gradient) - 1)


def _norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm, with a gradient of 0 where x is 0."""
    square = jnp.sum(jnp.square(x))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
