"""Three ways in which the Inception network is fed, each as its reference does it.

All of them resize to 299x299; a figure by one has nothing to do with a figure by another (Parmar
et al., 2022). Grey images are repeated to three channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gaxn.types import Images, Pixels

SIZE = 299

Weights = Float[np.ndarray, "299 size"]
"""How much each old pixel of a line gives to each new one; computed in float64."""


def tf(images: Pixels) -> Images:
    """As TensorFlow 1, and torch-fidelity: bilinear from the corner, x at 299 x / width.

    Nothing is averaged where images shrink. Then (x - 128) / 128.
    """
    return (_resized(images, _from_corner) - 128) / 128


def torch(images: Pixels) -> Images:
    """As pytorch-fid: bilinear between the centres of pixels, nothing averaged; [-1, 1]."""
    return _resized(images, _between_centres) / 127.5 - 1


def clean(images: Pixels) -> Images:
    """As clean-fid: PIL's bicubic filter on floats, which averages where images shrink.

    Clipped to [0, 255]; then (x - 128) / 128.
    """
    return (jnp.clip(_resized(images, _bicubic), 0, 255) - 128) / 128


PREPROCESSINGS: dict[str, Callable[[Pixels], Images]] = {"tf": tf, "torch": torch, "clean": clean}


def _resized(images: Pixels, weights_of: Callable[[int], Weights]) -> Images:
    x = jnp.repeat(images.astype(jnp.float32), 3 // images.shape[-1], axis=-1)
    rows, columns = (jnp.asarray(weights_of(side), jnp.float32) for side in images.shape[1:3])
    return jnp.einsum(
        "bhwc,yh,xw->byxc", x, rows, columns, precision=jax.lax.Precision.HIGHEST, optimize=True
    )


def _from_corner(size: int) -> Weights:
    # In float32, as the references compute it: where it falls upon a pixel that matters.
    return _between(np.arange(SIZE, dtype=np.float32) * np.float32(size / SIZE), size)


def _between_centres(size: int) -> Weights:
    return _between((np.arange(SIZE) + 0.5) * size / SIZE - 0.5, size)


def _between(places: np.ndarray, size: int) -> Weights:
    """Linear between the two neighbours of each place; the edge goes on beyond itself."""
    places = np.clip(places.astype(np.float64), 0, size - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


def _bicubic(size: int) -> Weights:
    """Keys' cubic with a = -1/2 (1981, eq. 15), widened where it shrinks."""
    scale = size / SIZE
    centres = (np.arange(SIZE) + 0.5) * scale
    x = np.abs((np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1))
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)
