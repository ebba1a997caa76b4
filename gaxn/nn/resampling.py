"""Layers that halve or double the resolution of a feature map."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from gaxn.nn import convolution, precision
from gaxn.nn.convolution import as_flax
from gaxn.types import Images, InputError

Initializer = nn.initializers.Initializer


class StridedConvolution(nn.Module):
    """Halves height and width by a learned convolution of stride 2, with a bias.

    A side of odd length is padded by one zero at its end, so that half of it is rounded up.

    Attributes:
        features: channels of the result.
        kernel_init: initializer of the kernel.
        dtype: of the products; None for that of x and the parameters.
        side: height and width of the kernel, 4 or 3.
    """

    features: int
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None
    side: int = 4

    @nn.compact
    def __call__(self, x: Images) -> Images:
        shape = self.side, self.side, x.shape[-1], self.features
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = precision.promote(x, kernel, bias, self.dtype)
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        return (convolution.halve(x, kernel) + bias).astype(x.dtype)


class TransposedConvolution(nn.Module):
    """Doubles height and width by a learned transposed convolution of stride 2, without a bias.

    Without a size, a 4x4 kernel is equal to `torch.nn.ConvTranspose2d` with padding 1, and a 3x3
    kernel with padding 1 and output padding 1. Like every kernel it has the outputs last,
    [side, side, inputs, outputs], as spectral norm and orthogonal regularization expect. An output
    pixel depends on 4 of the 16 taps of a 4x4 kernel, which is the fan-in of the initialization.

    Attributes:
        features: channels of the result.
        kernel_init: initializer of the kernel; it draws with the inputs last.
        dtype: of the products; None for that of x and the parameters.
        side: height and width of the kernel, 4 or 3.
    """

    features: int
    kernel_init: Initializer = nn.initializers.variance_scaling(
        8.0, "fan_in", "normal", in_axis=-1, out_axis=-2
    )
    dtype: DTypeLike | None = None
    side: int = 4

    @nn.compact
    def __call__(self, x: Images, size: int | None = None) -> Images:
        """Returns a map of height and width `size`: twice those of x (None), or one less."""
        shape = self.side, self.side, self.features, x.shape[-1]
        kernel = self.param("kernel", lambda key: self.kernel_init(key, shape).swapaxes(-1, -2))
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return convolution.double(x, kernel.swapaxes(-1, -2))[:, :size, :size]


class ResizedConvolution(nn.Module):
    """Doubles height and width by repetition, then convolves 3x3, without a bias.

    Leaves no checkerboard (Odena et al., 2016).

    Attributes:
        features: channels of the result.
        dtype: of the products; None for that of x and the parameters.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Images, size: int) -> Images:
        """Returns a map of height and width `size`: twice those of x, or one less."""
        he = nn.initializers.he_normal()
        layer = partial(
            nn.Conv, self.features, (3, 3), use_bias=False, kernel_init=he, dtype=self.dtype
        )
        if size == 2 * x.shape[1] == 2 * x.shape[2]:
            return layer(conv_general_dilated=as_flax(convolution.convolve_repeated))(x)
        return layer()(repeat(x)[:, :size, :size])


def repeat(x: Images) -> Images:
    """Doubles height and width by repetition."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def average_pool(x: Images) -> Images:
    """Averages tiles of 2x2; the last row or column of an odd side is dropped."""
    return _tiles(x, 2).mean(axis=(2, 4))


def max_pool(x: Images, size: int) -> Images:
    """Takes the maximum over tiles of `size`; rows and columns that fill no tile are dropped.

    Equal to `flax.linen.max_pool` with VALID padding, whose gradient is slow on CPU.
    """
    return _tiles(x, size).max(axis=(2, 4))


def _tiles(x: Images, size: int) -> jnp.ndarray:
    """Returns x as [batch, rows, size, columns, size, channels]."""
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    return x.reshape(batch, rows, size, columns, size, channels)


def resolutions(size: int, levels: int) -> tuple[int, ...]:
    """Returns `size` halved `levels` times, rounded up each time, smallest first.

    Raises:
        InputError: the size cannot be halved so often.
    """
    most = (size - 1).bit_length()
    if levels > most:
        raise InputError(
            f"widths must have at most {most} entries for images of {size} pixels, got {levels}"
        )
    return tuple(-(-size // 2**level) for level in reversed(range(levels + 1)))
