"""The convolution of stride 2 and its transpose, fast to differentiate any number of times.

Kernels are 4x4 or 3x3; the full-resolution image is padded by one zero on each side.

A convolution y = C(x, w) is bilinear, so <z, C(x, w)> is linear in each of x, w and z, and
the three partial gradients are the convolution, its transpose and its filter gradient. The
derivatives of each are the other two, and they are declared so here. XLA derives them with
dilated operands instead, and on CPU the filter gradient of a dilated operand takes 5 to 15
times as long; gradient penalties need it at every strided convolution.
"""

import functools

import jax
from jax import lax
from jaxtyping import Array, Float

from gaxn.types import Images

Kernel = Float[Array, "side side wide narrow"]
"""`wide` channels at full resolution, `narrow` channels at half, in both directions."""

_NUMBERS = ("NHWC", "HWIO", "NHWC")

MAX_WIDE_OF_TILES = 64
"""Most channels at full resolution with which tiles are the faster way."""


def _convolve(x: Images, kernel: Kernel) -> Images:
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_NUMBERS)


@jax.custom_vjp
def halve(x: Images, kernel: Kernel) -> Images:
    """Convolves with stride 2: [batch, 2h, 2w, wide] -> [batch, h, w, narrow]."""
    return _convolve(x, kernel)


@jax.custom_vjp
def double(y: Images, kernel: Kernel) -> Images:
    """Applies the transpose of `halve`: [batch, h, w, narrow] -> [batch, 2h, 2w, wide].

    On CPUs a narrow result is convolved in tiles, since XLA convolves an image with zeros between
    its pixels at 0.6 of the speed (benchmarks/transposed_convolution.py).
    """
    if len(kernel) == 4 and kernel.shape[2] <= MAX_WIDE_OF_TILES:
        return lax.platform_dependent(
            y, kernel, cpu=_double_by_tiles, default=_double_by_convolution
        )
    return _double_by_convolution(y, kernel)


def _double_by_convolution(y: Images, kernel: Kernel) -> Images:
    batch, height, width, _ = y.shape
    full = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[2]), y.dtype)
    (x,) = jax.linear_transpose(lambda x: _convolve(x, kernel), full)(y)
    return x


def _double_by_tiles(y: Images, kernel: Kernel) -> Images:
    """Convolves with a kernel of 2x2, whose outputs are the channels of tiles of 2x2 pixels.

    The tiles cover the result and its border of one pixel; a pixel's taps are 2x2 tiles.
    """
    batch, height, width, narrow = y.shape
    wide = kernel.shape[2]
    # [row of tiles, row in a tile, column of tiles, column in a tile, wide, narrow].
    taps = kernel.reshape(2, 2, 2, 2, wide, narrow)[::-1, :, ::-1]
    taps = taps.transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, narrow, 4 * wide)
    edges = (1, 1), (1, 1)
    tiles = lax.conv_general_dilated(y, taps, (1, 1), edges, dimension_numbers=_NUMBERS)
    tiles = tiles.reshape(batch, height + 1, width + 1, 2, 2, wide).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(batch, 2 * height + 2, 2 * width + 2, wide)[:, 1:-1, 1:-1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def filter_gradient(x: Images, y: Images, side: int) -> Kernel:
    """Returns the gradient of <y, halve(x, kernel)> in the kernel, which has `side` rows."""
    shape = jax.ShapeDtypeStruct((side, side, x.shape[-1], y.shape[-1]), x.dtype)
    (kernel,) = jax.linear_transpose(lambda kernel: _convolve(x, kernel), shape)(y)
    return kernel


def _forward(function):
    """Returns `function` with its operands as the residuals of its backward pass."""
    return lambda *operands: (function(*operands), operands)


def _halve_backward(operands, y):
    x, kernel = operands
    return double(y, kernel), filter_gradient(x, y, len(kernel))


def _double_backward(operands, x):
    y, kernel = operands
    return halve(x, kernel), filter_gradient(x, y, len(kernel))


def _filter_forward(x, y, side):
    return filter_gradient(x, y, side), (x, y)


def _filter_backward(side, operands, kernel):
    x, y = operands
    return double(y, kernel), halve(x, kernel)


halve.defvjp(_forward(halve), _halve_backward)
double.defvjp(_forward(double), _double_backward)
filter_gradient.defvjp(_filter_forward, _filter_backward)
