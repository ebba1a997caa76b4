"""Three ways to prepare images for the Inception network, each as in its reference.

Each function maps uint8 images [batch, height, width, channels] in [0, 255], or float ones in
[-1, 1], to float32 images [batch, 299, 299, 3] in about [-1, 1]. A single channel is repeated three
times; any number other than 1 or 3 is refused with an InputError. Scores by different ways are not
comparable (Parmar et al., 2022).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gaxn.types import Images, Pixels, check

SIZE = 299

Positions = Float[np.ndarray, "299"]
"""Positions of the new pixels along an axis, in old pixels; float32."""


def tf(images: Pixels) -> Images:
    """Resizes as TensorFlow 1 and torch-fidelity do: bilinear from the corner; (x - 128) / 128.

    New pixel x lies at old pixel x * width / 299, without a shift by half a pixel. There is no
    antialiasing.
    """
    return (_bilinear(_to_levels(images), _corner_positions) - 128) / 128


def torch(images: Pixels) -> Images:
    """Resizes as pytorch-fid does: bilinear between pixel centers; 2 x / 255 - 1.

    Equal to PyTorch's `interpolate` with `align_corners=False`. There is no antialiasing.
    """
    return 2 * _bilinear(_to_levels(images) / 255, _center_positions) - 1


def clean(images: Pixels) -> Images:
    """Resizes as clean-fid does: PIL's bicubic filter on floats in [0, 255]; (x - 128) / 128.

    The filter widens if images shrink, which is antialiasing.
    """
    x = _to_levels(images)
    rows, columns = (jnp.asarray(_bicubic_weights(side), jnp.float32) for side in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bhwc,xw->bhxc", x, columns, precision=highest)
    x = jnp.einsum("bhxc,yh->byxc", x, rows, precision=highest)
    return (jnp.clip(x, 0, 255) - 128) / 128


PREPROCESSINGS = {"tf": tf, "torch": torch, "clean": clean}


def to_rgb(images: Pixels | Images) -> Pixels | Images:
    """Repeats a single channel three times; three channels stay as they are.

    Raises:
        InputError: the number of channels is neither 1 nor 3.
    """
    channels = images.shape[-1]
    check("the number of channels", channels, channels in (1, 3), "1 or 3")
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def _to_levels(images: Pixels | Images) -> Images:
    """Returns RGB images in [0, 255], float32."""
    levels = (images + 1) * 127.5 if jnp.issubdtype(images.dtype, jnp.floating) else images
    return to_rgb(levels).astype(jnp.float32)


# Both references compute positions in float32; other rounding changes pixels by up to 0.008 of 255.
def _corner_positions(side: int) -> Positions:
    return np.arange(SIZE, dtype=np.float32) * np.float32(side / SIZE)


def _center_positions(side: int) -> Positions:
    # PyTorch's scale is a float32, too, but the product is rounded only after 0.5 is subtracted.
    positions = (np.arange(SIZE) + 0.5) * np.float64(np.float32(side / SIZE)) - 0.5
    return positions.astype(np.float32)


def _bilinear(x: Images, positions: Callable[[int], Positions]) -> Images:
    """Interpolates linearly between pixels along both axes; edge pixels extend beyond the image."""
    for axis in (2, 1):
        last = x.shape[axis] - 1
        places = np.clip(positions(last + 1), 0, last)
        low = places.astype(np.int32)
        weights = np.expand_dims(places - low, tuple(range(1, x.ndim - axis)))
        first, second = (jnp.take(x, index, axis) for index in (low, np.minimum(low + 1, last)))
        x = first + (second - first) * weights
    return x


def _bicubic_weights(side: int) -> Float[np.ndarray, "299 side"]:
    """Returns the weight of each old pixel in each new one: Keys' cubic (1981), a = -1/2.

    Computed in float64, as in PIL: with the float32 weights of `jax.image.resize`, an image that
    shrinks from 320 pixels is off by 0.008 of 255.
    """
    scale = side / SIZE
    centers = (np.arange(SIZE) + 0.5) * scale
    x = np.abs(np.arange(side) + 0.5 - centers[:, None]) / max(scale, 1)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)
