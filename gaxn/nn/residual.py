"""Residual blocks that double or halve the resolution (Miyato et al., 2018, appendix figure 8)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gaxn.nn import norms, spectral
from gaxn.types import Images

INITIAL = nn.initializers.glorot_uniform()


class UpBlock(nn.Module):
    """Twice the resolution: norm, ReLU, repetition, 3x3, norm, ReLU, 3x3; plus a 1x1 shortcut.

    Attributes:
        features: channels of the result.
        spectral_norm: whether the three convolutions are spectrally normalised.
        dtype: of the products; None for that of x.
    """

    features: int
    spectral_norm: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Images, condition: Float[Array, "batch condition"] | None, train: bool
    ) -> Images:
        """[batch, h, w, channels] -> [batch, 2h, 2w, features]; a condition modulates the norms."""
        convolve = partial(convolution, self.spectral_norm, self.features, dtype=self.dtype)
        y = nn.relu(normalise(x, condition, train, self.dtype))
        y = convolve(3, "first")(_repeat(y), train)
        y = nn.relu(normalise(y, condition, train, self.dtype))
        return convolve(3, "second")(y, train) + convolve(1, "shortcut")(_repeat(x), train)


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus a 1x1 shortcut, which is there where x changes.

    Attributes:
        features: channels of the result.
        first: whether x is an image: it then goes into the first convolution as it is.
        halve: whether the resolution is halved.
        spectral_norm: whether the convolutions are spectrally normalised.
        dtype: of the products; None for that of x.
    """

    features: int
    first: bool
    halve: bool
    spectral_norm: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        """[batch, h, w, channels] -> [batch, h / 2, w / 2, features], or h and w as they are."""
        convolve = partial(convolution, self.spectral_norm, self.features, dtype=self.dtype)
        pool = shrink if self.halve else lambda y: y
        y = x if self.first else nn.relu(x)
        y = nn.relu(convolve(3, "first")(y, train))
        y = pool(convolve(3, "second")(y, train))
        if not self.halve and x.shape[-1] == self.features:
            return x + y
        # A mean and a 1x1 convolution commute: the one on less comes last.
        return y + convolve(1, "shortcut")(pool(x), train)


def convolution(
    spectral_norm: bool, features: int, size: int, name: str, dtype: DTypeLike | None
) -> spectral.Layer:
    """A convolution of stride 1 with a bias, as the residual networks have it."""
    layer = nn.Conv(features, (size, size), kernel_init=INITIAL, dtype=dtype)
    return spectral.wrap(spectral_norm, layer, name)


def normalise(
    x: Images,
    condition: Float[Array, "batch condition"] | None,
    train: bool,
    dtype: DTypeLike | None,
) -> Images:
    """BatchNorm, modulated where there is a condition. To be called within a compact method."""
    if condition is None:
        return norms.batch_norm(train, dtype)(x)
    return norms.ModulatedBatchNorm(dtype)(x, condition, train)


def shrink(x: Images) -> Images:
    """The mean of each 2x2 pixels; an odd side loses its last."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    tiles = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    return tiles.mean(axis=(2, 4))


def _repeat(x: Images) -> Images:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
