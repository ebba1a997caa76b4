"""Differentiable augmentations of the discriminator's inputs, real and generated alike.

One function per augmentation, whose parameters are its options in a config. An `Augmentation` maps
(images in [-1, 1], one key per example, step) to images of the same shape.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gaxn.types import Image, Images, PRNGKey, check

Augmentation = Callable[[Images, jax.Array, jax.Array], Images]


def translation(ratio: float = 0.125) -> Augmentation:
    """Shifts each image by whole pixels, repeating its edge (Zhao et al., 2020, section 3).

    Args:
        ratio: the largest shift, as a share of the side, in [0, 1].
    """
    check("ratio", ratio, 0 <= ratio <= 1, "0 to 1")

    def shift(image: Image, key: PRNGKey) -> Image:
        height, width, _ = image.shape
        reach = jnp.array([int(ratio * height), int(ratio * width)])
        down, right = jax.random.randint(key, (2,), -reach, reach + 1)
        rows = jnp.clip(jnp.arange(height) - down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) - right, 0, width - 1)
        return image[rows][:, columns]

    return lambda images, keys, step: jax.vmap(shift)(_check_images("translation", images), keys)


def color(brightness: float = 1.0, saturation: float = 1.0, contrast: float = 0.5) -> Augmentation:
    """Changes brightness, then saturation, then contrast (Zhao et al., 2020, section 3).

    The result may leave [-1, 1].

    Args:
        brightness: all pixels are shifted by a number uniform in
            [-brightness / 2, brightness / 2], with brightness 0 or more.
        saturation: the distance to each pixel's mean over channels is multiplied by a factor
            uniform in [1 - saturation, 1 + saturation], with saturation in [0, 1].
        contrast: the distance to the image's mean is multiplied by a factor uniform in
            [1 - contrast, 1 + contrast], with contrast in [0, 1].
    """
    check("brightness", brightness, brightness >= 0, "0 or more")
    check("saturation", saturation, 0 <= saturation <= 1, "0 to 1")
    check("contrast", contrast, 0 <= contrast <= 1, "0 to 1")

    def recolor(image: Image, key: PRNGKey) -> Image:
        shade, chroma, stretch = jax.random.uniform(key, (3,), image.dtype, -1, 1)
        image = image + brightness / 2 * shade
        gray = image.mean(axis=-1, keepdims=True)
        image = gray + (1 + saturation * chroma) * (image - gray)
        mean = image.mean()
        return mean + (1 + contrast * stretch) * (image - mean)

    return lambda images, keys, step: jax.vmap(recolor)(_check_images("color", images), keys)


def cutout(ratio: float = 0.5) -> Augmentation:
    """Sets a random rectangle to 0, cut at the border (DeVries & Taylor, 2017; Zhao et al., 2020).

    Args:
        ratio: the rectangle's sides, as a share of the image's, in [0, 1].
    """
    check("ratio", ratio, 0 <= ratio <= 1, "0 to 1")

    def cut(image: Image, key: PRNGKey) -> Image:
        sides = jnp.array(image.shape[:2])
        lengths = (ratio * sides + 0.5).astype(int)
        # The center of an even rectangle lies between pixels: one more place.
        center = jax.random.randint(key, (2,), 0, sides + 1 - lengths % 2)
        first = center - lengths // 2
        rows, columns = (
            (jnp.arange(side) >= start) & (jnp.arange(side) < start + length)
            for side, start, length in zip(image.shape[:2], first, lengths, strict=True)
        )
        return jnp.where((rows[:, None] & columns)[..., None], 0.0, image)

    return lambda images, keys, step: jax.vmap(cut)(_check_images("cutout", images), keys)


def instance_noise(deviation: float = 0.1, until: int = 0) -> Augmentation:
    """Adds noise from N(0, deviation^2), linearly decaying (Sonderby et al., 2017, section 3.2).

    Args:
        deviation: standard deviation of the noise at step 0, for pixels in [-1, 1]; 0 or more.
        until: the step from which there is no noise; 0 for constant noise.
    """
    check("deviation", deviation, deviation >= 0, "0 or more")
    check("until", until, until >= 0, "0 (for constant noise) or a step")

    def add_noise(images: Images, keys: jax.Array, step: jax.Array) -> Images:
        scale = jnp.maximum(0, until - step) / until if until else 1.0
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys)
        return images + deviation * scale * noise

    return add_noise


def _check_images(name: str, images: Images) -> Images:
    """Returns the images that an augmentation gets.

    Raises:
        InputError: they are points.
    """
    check(f"the examples of the augmentation {name}", "points", images.ndim == 4, "images")
    return images
