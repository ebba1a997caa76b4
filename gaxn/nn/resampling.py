"""Layers that halve or double the resolution of a feature map."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from gaxn.nn import convolution
from gaxn.types import Images, InputError

Initializer = nn.initializers.Initializer


class StridedConvolution(nn.Module):
    """Halves height and width by a learnt kernel of stride 2, 4x4 or 3x3, with a bias.

    A side of odd length has a zero more at its end, so that half of it is rounded up.
    """

    features: int
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None
    side: int = 4

    @nn.compact
    def __call__(self, x: Images) -> Images:
        kernel = self.param(
            "kernel", self.kernel_init, (self.side, self.side, x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        return convolution.halve(x, kernel) + bias


class TransposedConvolution(nn.Module):
    """Doubles the resolution by a learnt kernel of stride 2, 4x4 or 3x3; no bias.

    Before it is cropped, a 4x4 kernel does the same as in `flax.linen.ConvTranspose` with SAME
    padding and `transpose_kernel=True`; each output pixel meets 4 of its 16 taps, the fan-in of
    the initialisation. A 3x3 kernel does the same as in
    `torch.nn.ConvTranspose2d` with padding 1 and output padding 1.
    """

    features: int
    kernel_init: Initializer = nn.initializers.variance_scaling(
        8.0, "fan_in", "normal", in_axis=-1, out_axis=-2
    )
    dtype: DTypeLike | None = None
    side: int = 4

    @nn.compact
    def __call__(self, x: Images, size: int | None = None) -> Images:
        """To height and width `size`: twice those of `x`, or one less; None for twice."""
        shape = self.side, self.side, self.features, x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        return convolution.double(x, kernel)[:, :size, :size]


class ResizedConvolution(nn.Module):
    """Doubles the resolution by repetition, then convolves 3x3; no bias.

    Costs 2.25 times the transposed convolution and cannot leave a checkerboard
    (Odena et al., 2016).
    """

    features: int
    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Images, size: int) -> Images:
        """To height and width `size`: twice those of `x`, or one less."""
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)[:, :size, :size]
        layer = nn.Conv(self.features, (3, 3), use_bias=False, kernel_init=self.kernel_init)
        return layer(x)


def max_pool(x: Images, size: int) -> Images:
    """Max pooling over tiles of `size`; what is left over at the end of a side is dropped.

    The same as `flax.linen.max_pool` with VALID padding, whose gradient is slow on CPU.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    tiles = x[:, : rows * size, : columns * size]
    return tiles.reshape(batch, rows, size, columns, size, channels).max(axis=(2, 4))


def resolutions(size: int, levels: int) -> tuple[int, ...]:
    """The resolutions of so many halvings, each rounded up, from the smallest to the full one.

    Raises:
        InputError: the size cannot be halved so often.
    """
    if levels > (size - 1).bit_length():
        raise InputError(
            f"widths has {levels} entries, each a doubling; an image of {size} pixels "
            f"can be halved {(size - 1).bit_length()} times"
        )
    return tuple(-(-size // 2**level) for level in reversed(range(levels + 1)))
