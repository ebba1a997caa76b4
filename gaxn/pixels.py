"""Between stored pixels, uint8 in [0, 255], and what networks see, float in [-1, 1].

What is stored as float is no pixels, and networks see it as it is.
"""

import jax.numpy as jnp

from gaxn.types import Images, Pixels


def decode(pixels: Pixels) -> Images:
    """uint8 -> JAX's default float (float32) in [-1, 1]; float as it is."""
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        return pixels
    return jnp.asarray(pixels, float) / 127.5 - 1


def encode(images: Images) -> Pixels:
    """Float in [-1, 1] -> the nearest uint8; values beyond the range are clipped."""
    return jnp.round(jnp.clip((images + 1) * 127.5, 0, 255)).astype(jnp.uint8)
