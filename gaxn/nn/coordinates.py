"""Coordinates of pixels as features (CoordConv; Liu et al., 2018)."""

import jax.numpy as jnp

from gaxn.types import Images


def coordinates(size: int) -> Images:
    """Returns y and x, from -1 to 1 between the outer pixel centers: [1, size, size, 2]."""
    line = jnp.linspace(-1, 1, size)
    return jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1)[None]
