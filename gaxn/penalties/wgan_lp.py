"""WGAN-LP: gradients of at most 1 between real and generated images (Petzka et al., 2018)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, interpolate, norm
from gaxn.types import Images


def penalty(critic: Critic, real: Images, fake: Images, keys: jax.Array) -> Float[Array, "batch"]:
    """max(0, |grad D(e x + (1 - e) G(z))| - 1)^2 of each pair, with e ~ U(0, 1) by its key."""
    return jnp.square(nn.relu(norm(input_gradient(critic, interpolate(real, fake, keys))) - 1))
