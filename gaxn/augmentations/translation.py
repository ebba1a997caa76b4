"""Random shifts, of real and generated images alike (Zhao et al., 2020, section 3)."""

import dataclasses

import jax
import jax.numpy as jnp

from gaxn.types import Image, Images, PRNGKey, require


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Shifts each image by whole pixels, repeating its edge.

    Attributes:
        ratio: the largest shift, as a share of the side, in [0, 1].
    """

    ratio: float = 0.125

    def __post_init__(self):
        require("ratio", self.ratio, 0 <= self.ratio <= 1, "0 to 1")

    def __call__(self, images: Images, keys: jax.Array, step: jax.Array) -> Images:
        return jax.vmap(self._shift)(images, keys)

    def _shift(self, image: Image, key: PRNGKey) -> Image:
        height, width, _ = image.shape
        reach = jnp.array([int(self.ratio * height), int(self.ratio * width)])
        down, right = jax.random.randint(key, (2,), -reach, reach + 1)
        rows = jnp.clip(jnp.arange(height) - down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) - right, 0, width - 1)
        return image[rows][:, columns]
