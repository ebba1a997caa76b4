"""0-GP: no gradient between real and generated images (Thanh-Tung et al., 2019, section 5)."""

import jax
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, interpolate, square_norm
from gaxn.types import Images


def penalty(critic: Critic, real: Images, fake: Images, keys: jax.Array) -> Float[Array, "batch"]:
    """|grad D(e x + (1 - e) G(z))|^2 of each pair, with e ~ U(0, 1) by its key."""
    return square_norm(input_gradient(critic, interpolate(real, fake, keys)))
