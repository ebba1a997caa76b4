"""Position as a feature (CoordConv; Liu et al., 2018)."""

import jax.numpy as jnp

from gaxn.types import Images


def with_coordinates(x: Images) -> Images:
    """Appends y and x, from -1 to 1 between the outer pixels' centres, to the channels."""
    batch, height, width, _ = x.shape
    y, x_ = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    place = jnp.stack([y, x_], axis=-1)
    return jnp.concatenate([x, jnp.broadcast_to(place, (batch, height, width, 2))], axis=-1)
