"""Random brightness, saturation and contrast (Zhao et al., 2020, section 3)."""

import dataclasses

import jax

from gaxn.types import Image, Images, PRNGKey, require


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Adds a shade to each image, then stretches its colours and its contrast, in this order.

    The result may leave [-1, 1].

    Attributes:
        brightness: the shade is uniform in [-brightness / 2, brightness / 2].
        saturation: the distance to each pixel's mean over channels is stretched by a factor
            uniform in [1 - saturation, 1 + saturation].
        contrast: the distance to the image's mean likewise.
    """

    brightness: float = 1.0
    saturation: float = 1.0
    contrast: float = 0.5

    def __post_init__(self):
        require("brightness", self.brightness, self.brightness >= 0, "0 or more")
        require("saturation", self.saturation, 0 <= self.saturation <= 1, "0 to 1")
        require("contrast", self.contrast, 0 <= self.contrast <= 1, "0 to 1")

    def __call__(self, images: Images, keys: jax.Array, step: jax.Array) -> Images:
        return jax.vmap(self._recolour)(images, keys)

    def _recolour(self, image: Image, key: PRNGKey) -> Image:
        shade, saturation, contrast = jax.random.uniform(key, (3,), image.dtype, -1, 1)
        image = image + self.brightness / 2 * shade
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + (1 + self.saturation * saturation) * (image - grey)
        mean = image.mean()
        return mean + (1 + self.contrast * contrast) * (image - mean)
