"""R1: the gradient at real images (Mescheder et al., 2018, eq. 9)."""

import jax
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, square_norm
from gaxn.types import Images


def penalty(critic: Critic, real: Images, fake: Images, keys: jax.Array) -> Float[Array, "batch"]:
    """1/2 |grad D(x)|^2 of each example."""
    return square_norm(input_gradient(critic, real)) / 2
