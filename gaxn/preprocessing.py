"""Three ways from pixels to what the Inception network takes, each as its reference has it.

Every one maps uint8 images [batch, height, width, channels], in [0, 255], to float32 images
[batch, 299, 299, 3], about [-1, 1]. One channel is repeated to three; any other number but three
is refused with an InputError. A figure by one way cannot be compared with a figure by another
(Parmar et al., 2022).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gaxn.types import Images, Pixels, require

SIZE = 299

Places = Float[np.ndarray, "299"]
"""Where the new pixels of a line lie among its old ones, in old pixels; float32."""


def tf(images: Pixels) -> Images:
    """TensorFlow 1's and torch-fidelity's: bilinear from the corner; (x - 128) / 128.

    The new pixel at x lies at x * width / 299 of the old ones, without half a pixel's shift, and
    nothing is averaged where images shrink.
    """
    return (_bilinear(_in_colour(images), _from_corner) - 128) / 128


def torch(images: Pixels) -> Images:
    """pytorch-fid's: bilinear between centres, nothing averaged; 2 x / 255 - 1.

    The same as PyTorch's `interpolate` with `align_corners=False`.
    """
    return 2 * _bilinear(_in_colour(images) / 255, _between_centres) - 1


def clean(images: Pixels) -> Images:
    """clean-fid's: PIL's bicubic filter on floats, clipped to [0, 255]; (x - 128) / 128.

    Where images shrink the filter widens, and so averages.
    """
    x = _in_colour(images)
    rows, columns = (jnp.asarray(_bicubic(side), jnp.float32) for side in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bhwc,xw->bhxc", x, columns, precision=highest)
    x = jnp.einsum("bhxc,yh->byxc", x, rows, precision=highest)
    return (jnp.clip(x, 0, 255) - 128) / 128


PREPROCESSINGS: Mapping[str, Callable[[Pixels], Images]] = {
    "tf": tf,
    "torch": torch,
    "clean": clean,
}


def _in_colour(images: Pixels) -> Images:
    channels = images.shape[-1]
    require("the number of channels", channels, channels in (1, 3), "1 or 3")
    return jnp.broadcast_to(images, (*images.shape[:-1], 3)).astype(jnp.float32)


# Both references find places in float32: rounded otherwise, a pixel is off by up to 0.008 of 255.
def _from_corner(side: int) -> Places:
    return np.arange(SIZE, dtype=np.float32) * np.float32(side / SIZE)


def _between_centres(side: int) -> Places:
    # PyTorch's scale is a float32 too, but its product is rounded only once 0.5 is taken off it.
    places = (np.arange(SIZE) + 0.5) * np.float64(np.float32(side / SIZE)) - 0.5
    return places.astype(np.float32)


def _bilinear(x: Images, places: Callable[[int], Places]) -> Images:
    for axis in (2, 1):
        x = _at(x, places(x.shape[axis]), axis)
    return x


def _at(x: Images, places: Places, axis: int) -> Images:
    """Linear between the two pixels about each place; the edges go on beyond themselves."""
    last = x.shape[axis] - 1
    places = np.clip(places, 0, last)
    low = places.astype(np.int32)
    share = np.expand_dims(places - low, tuple(range(1, x.ndim - axis)))
    first, second = (jnp.take(x, at, axis) for at in (low, np.minimum(low + 1, last)))
    return first + (second - first) * share


def _bicubic(side: int) -> Float[np.ndarray, "299 side"]:
    """What each old pixel of a line gives to each new one: Keys' cubic (1981), a = -1/2.

    In float64, as PIL has it: with the float32 weights of `jax.image.resize` an image that
    shrinks from 320 pixels is off by 0.008 of 255.
    """
    scale = side / SIZE
    centres = (np.arange(SIZE) + 0.5) * scale
    x = np.abs(np.arange(side) + 0.5 - centres[:, None]) / max(scale, 1)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)
