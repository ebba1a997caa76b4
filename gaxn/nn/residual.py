"""Residual blocks that double or halve the resolution (Miyato et al., 2018, appendix figure 8)."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gaxn.nn import precision, spectral
from gaxn.nn.convolution import as_flax, convolve_and_average, convolve_repeated
from gaxn.nn.norms import Condition, normalize
from gaxn.nn.resampling import average_pool, repeat
from gaxn.types import Images

KERNEL_INIT = nn.initializers.glorot_uniform()

MIN_SIDE = 8
"""Least side of the smaller map at which a convolution is resampled: on fewer pixels the sums of
kernels take longer than the products that they save."""


class UpBlock(nn.Module):
    """Twice the resolution: norm, ReLU, repetition, 3x3, norm, ReLU, 3x3; plus a 1x1 shortcut.

    Attributes:
        features: channels of the result.
        spectral_norm: whether the three convolutions are spectrally normalized.
        dtype: of the products; None for that of x.
    """

    features: int
    spectral_norm: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, condition: Condition | None, train: bool) -> Images:
        """Maps [batch, h, w, channels] to [batch, 2h, 2w, features].

        A condition modulates the norms.
        """
        convolve = partial(convolution, self.spectral_norm, self.features, dtype=self.dtype)
        y = nn.relu(normalize(x, condition, train, self.dtype))
        if min(x.shape[1:3]) >= MIN_SIDE:
            y = convolve(3, "first", convolve_repeated)(y, train)
        else:
            y = convolve(3, "first")(repeat(y), train)
        y = nn.relu(normalize(y, condition, train, self.dtype))
        # Repetition and a 1x1 convolution commute; the convolution is cheaper on the smaller map.
        y = convolve(3, "second")(y, train) + repeat(convolve(1, "shortcut")(x, train))
        return jnp.asarray(y, self.dtype)


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean of 2x2; plus a 1x1 shortcut if the shape of x changes.

    Attributes:
        features: channels of the result.
        first: whether x is an image, to which no ReLU is applied.
        halve: whether the resolution is halved.
        spectral_norm: whether the convolutions are spectrally normalized.
        dtype: of the products; None for that of x.
    """

    features: int
    first: bool
    halve: bool
    spectral_norm: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        """Maps [batch, h, w, channels] to [batch, h / 2, w / 2, features], or without halving
        to [batch, h, w, features]."""
        convolve = partial(convolution, self.spectral_norm, self.features, dtype=self.dtype)
        pool = average_pool if self.halve else lambda y: y
        y = x if self.first else nn.relu(x)
        y = nn.relu(convolve(3, "first")(y, train))
        if self.halve and all(side % 2 == 0 and side >= 2 * MIN_SIDE for side in x.shape[1:3]):
            y = convolve(3, "second", convolve_and_average)(y, train)
        else:
            y = pool(convolve(3, "second")(y, train))
        if not self.halve and x.shape[-1] == self.features:
            return jnp.asarray(x + y, self.dtype)
        # A mean and a 1x1 convolution commute; the convolution is cheaper on the smaller map.
        return jnp.asarray(y + convolve(1, "shortcut")(pool(x), train), self.dtype)


def convolution(
    spectral_norm: bool,
    features: int,
    size: int,
    name: str,
    product: Callable[[Images, jax.Array], Images] | None = None,
    *,
    dtype: DTypeLike | None,
) -> spectral.Layer:
    """Returns a convolution of stride 1 with a bias, spectrally normalized if wanted.

    Args:
        spectral_norm: whether the kernel is normalized.
        features: channels of the result.
        size: height and width of the kernel.
        name: of the layer.
        product: (x, kernel) -> the result without bias, if the map is resampled too.
        dtype: of the products; None for that of x.
    """
    layer = partial(precision.Conv, features, (size, size), kernel_init=KERNEL_INIT, dtype=dtype)
    if product is not None:
        layer = partial(layer, conv_general_dilated=as_flax(product))
    return spectral.wrap(spectral_norm, layer(), name)
