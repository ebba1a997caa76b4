"""Conversion between stored pixels, uint8 in [0, 255], and network images, float in [-1, 1].

Examples that are stored as float are points, not pixels; networks take them unchanged.
"""

import jax.numpy as jnp

from gaxn.types import Images, Pixels


def decode(pixels: Pixels) -> Images:
    """Converts uint8 to JAX's default float (float32) in [-1, 1]; returns float unchanged."""
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        return pixels
    return jnp.asarray(pixels, float) / 127.5 - 1


def encode(images: Images) -> Pixels:
    """Rounds float in [-1, 1] to the nearest uint8; clips values outside the range."""
    return jnp.round(jnp.clip((images + 1) * 127.5, 0, 255)).astype(jnp.uint8)
