"""R2: the gradient at generated images (Mescheder et al., 2018, eq. 10)."""

import jax
from jaxtyping import Array, Float

from gaxn.penalties import Critic, input_gradient, square_norm
from gaxn.types import Images


def penalty(critic: Critic, real: Images, fake: Images, keys: jax.Array) -> Float[Array, "batch"]:
    """1/2 |grad D(G(z))|^2 of each example."""
    return square_norm(input_gradient(critic, fake)) / 2
