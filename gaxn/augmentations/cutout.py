"""A random square of nothing (DeVries & Taylor, 2017; for GANs: Zhao et al., 2020, section 3)."""

import dataclasses

import jax
import jax.numpy as jnp

from gaxn.types import Image, Images, PRNGKey, require


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Sets a rectangle of each image to 0, mid-grey; where it reaches beyond, it is cut.

    Attributes:
        ratio: its sides, as a share of the image's, in [0, 1].
    """

    ratio: float = 0.5

    def __post_init__(self):
        require("ratio", self.ratio, 0 <= self.ratio <= 1, "0 to 1")

    def __call__(self, images: Images, keys: jax.Array, step: jax.Array) -> Images:
        return jax.vmap(self._cut)(images, keys)

    def _cut(self, image: Image, key: PRNGKey) -> Image:
        sides = jnp.array(image.shape[:2])
        cut = (self.ratio * sides + 0.5).astype(int)
        # Of an even rectangle the centre lies between pixels: one place more.
        centre = jax.random.randint(key, (2,), 0, sides + 1 - cut % 2)
        first = centre - cut // 2
        rows, columns = (
            (jnp.arange(side) >= start) & (jnp.arange(side) < start + length)
            for side, start, length in zip(image.shape[:2], first, cut, strict=True)
        )
        return jnp.where((rows[:, None] & columns)[..., None], 0.0, image)
