"""Instance noise: real and generated images overlap (Sonderby et al., 2017, section 3.2)."""

import dataclasses

import jax
import jax.numpy as jnp

from gaxn.types import Images, require


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Adds noise from N(0, deviation^2), falling in a line to nothing.

    Attributes:
        deviation: at step 0, in units of the images.
        until: the step from which there is none; 0 for noise that stays.
    """

    deviation: float = 0.1
    until: int = 0

    def __post_init__(self):
        require("deviation", self.deviation, self.deviation >= 0, "0 or more")
        require("until", self.until, self.until >= 0, "0, for always, or a step")

    def __call__(self, images: Images, keys: jax.Array, step: jax.Array) -> Images:
        left = jnp.maximum(0, self.until - step) / self.until if self.until else 1.0
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys)
        return images + self.deviation * left * noise
