"""Convolutions of stride 1 and 2, fast to differentiate any number of times.

Kernels are square. Of stride 2 they are 4x4 or 3x3, and the full-resolution image is padded by one
zero on each side.

A convolution y = C(x, w) is bilinear, so <z, C(x, w)> is linear in each of x, w and z, and
the three partial gradients are the convolution, its transpose and its filter gradient. The
derivatives of each are the other two, and they are declared so here. XLA derives them with
dilated operands instead, and on CPU the filter gradient of a dilated operand takes 5 to 15
times as long; gradient penalties need it at every strided convolution.

The transpose of a convolution of stride 1 is one too, by the kernel reversed.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gaxn.types import Images

Kernel = Float[Array, "side side wide narrow"]
"""`wide` channels at full resolution, `narrow` channels at half, in both directions."""

_NUMBERS = ("NHWC", "HWIO", "NHWC")

MAX_WIDE_OF_TILES = 64
"""Most channels at full resolution with which tiles are the faster way."""


MAX_FEW, MIN_WIDE = 4, 5
"""Most outputs and least side of a kernel that is convolved in tiles on CPUs, where XLA's
convolutions to few channels are slow (benchmarks/convolutions.py)."""


def convolve_as_flax(
    x: Images, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> Images:
    """Convolves as `flax.linen.Conv` asks for it: by `convolve`, unless it is another kind."""
    side, *sides = kernel.shape[:-2]
    pads = padding
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], strides, padding)
    zeros = {*itertools.chain(*pads)}
    ones = {*strides, *options["lhs_dilation"], *options["rhs_dilation"]}
    is_plain = sides == [side] and len(zeros) == 1 and zeros <= {*range(side)} and ones == {1}
    if is_plain and options["feature_group_count"] == 1:
        return convolve(x, kernel, zeros.pop())
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


def convolve_small_as_flax(
    x: Images, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> Images:
    """Convolves as `flax.linen.Conv` asks for it, with stride 1 and padding that keeps the size.

    XLA's CPU backend is ten to a hundred times slower where the image is smaller than the kernel
    (1 GFLOP/s for 512 channels at 2x2, jax 0.10.2); a product of patches is as fast as others.
    """

    def by_convolution(x: Images, kernel: jax.Array) -> Images:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)

    def by_patches(x: Images, kernel: jax.Array) -> Images:
        return _convolve_patches(x, kernel, options["precision"])

    if min(x.shape[1:-1]) >= len(kernel):
        return by_convolution(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=by_patches, default=by_convolution)


def _convolve_patches(x: Images, kernel: jax.Array, precision: Any) -> Images:
    """Convolves by one product of the patches of an image with a kernel of odd side."""
    side, _, inputs, outputs = kernel.shape
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), *((side // 2, side // 2),) * 2, (0, 0)))
    shifts = itertools.product(range(side), repeat=2)
    patches = [x[:, i : i + height, j : j + width] for i, j in shifts]
    columns = kernel.reshape(side * side * inputs, outputs)
    return jnp.matmul(jnp.concatenate(patches, axis=-1), columns, precision=precision)


def as_flax(product: Callable[[Images, jax.Array], Images]) -> Callable[..., Images]:
    """Returns a function of image and kernel as `flax.linen.Conv` calls what convolves for it."""
    return lambda x, kernel, *_, **options: product(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: Images, kernel: jax.Array, padding: int) -> Images:
    """Convolves with stride 1: [batch, h, w, inputs] -> [batch, h', w', outputs].

    Args:
        x: of any size that leaves a result.
        kernel: [side, side, inputs, outputs].
        padding: zeros on each side of x, fewer than `side`.
    """
    by_one = functools.partial(_convolve_by_one, padding=padding)
    by_tiles = functools.partial(_convolve_by_tiles, padding=padding)
    if kernel.shape[-1] > MAX_FEW or len(kernel) < MIN_WIDE:
        return by_one(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=by_tiles, default=by_one)


def _convolve_by_one(x: Images, kernel: jax.Array, padding: int) -> Images:
    pads = ((padding, padding),) * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NUMBERS)


def _convolve_by_tiles(x: Images, kernel: jax.Array, padding: int) -> Images:
    """Convolves tiles of 2x2 pixels, as channels, with a kernel whose outputs are tiles too."""
    batch, *lengths, inputs = x.shape
    side, _, _, outputs = kernel.shape
    reach = (side + 2) // 2
    sizes = [length + 2 * padding - side + 1 for length in lengths]
    tiles = [(size + 1) // 2 + reach - 1 for size in sizes]
    ends = [2 * count - length - padding for count, length in zip(tiles, lengths, strict=True)]
    x = jnp.pad(x, ((0, 0), *((padding, end) for end in ends), (0, 0)))
    x = x.reshape(batch, tiles[0], 2, tiles[1], 2, inputs).transpose(0, 1, 3, 2, 4, 5)
    # [row in a tile, column in a tile, row, column, inputs, outputs].
    shifts = [((shift, 2 * reach - side - shift)) for shift in range(2)]
    taps = jnp.stack(
        [
            jnp.stack([jnp.pad(kernel, (rows, columns, (0, 0), (0, 0))) for columns in shifts])
            for rows in shifts
        ]
    )
    taps = taps.reshape(2, 2, reach, 2, reach, 2, inputs, outputs)
    taps = taps.transpose(2, 4, 3, 5, 6, 0, 1, 7).reshape(reach, reach, 4 * inputs, 4 * outputs)
    y = _convolve_by_one(x.reshape(batch, *tiles, -1), taps, 0)
    rows, columns = y.shape[1:3]
    y = y.reshape(batch, rows, columns, 2, 2, outputs).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * rows, 2 * columns, outputs)[:, : sizes[0], : sizes[1]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_filter_gradient(x: Images, y: Images, side: int, padding: int) -> jax.Array:
    """Returns the gradient of <y, convolve(x, kernel, padding)> in the kernel."""
    if 2 * padding > side - 1:
        # XLA is slow if y is larger than x, so they change places.
        return _reverse(convolve_filter_gradient(y, x, side, side - 1 - padding))

    def transpose(convolve: Callable[..., Images], x: Images, y: Images) -> jax.Array:
        shape = jax.ShapeDtypeStruct((side, side, x.shape[-1], y.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda kernel: convolve(x, kernel, padding), shape)(y)[0]

    by_one = functools.partial(transpose, _convolve_by_one)
    by_tiles = functools.partial(transpose, _convolve_by_tiles)
    if y.shape[-1] > MAX_FEW or side < MIN_WIDE:
        return by_one(x, y)
    return lax.platform_dependent(x, y, cpu=by_tiles, default=by_one)


def _convolve_forward(x, kernel, padding):
    return convolve(x, kernel, padding), (x, kernel)


def _convolve_backward(padding, operands, y):
    x, kernel = operands
    side = len(kernel)
    return (
        convolve(y, _reverse(kernel), side - 1 - padding),
        convolve_filter_gradient(x, y, side, padding),
    )


def _convolve_filter_forward(x, y, side, padding):
    return convolve_filter_gradient(x, y, side, padding), (x, y)


def _convolve_filter_backward(side, padding, operands, kernel):
    x, y = operands
    return convolve(y, _reverse(kernel), side - 1 - padding), convolve(x, kernel, padding)


def _reverse(kernel: jax.Array) -> jax.Array:
    """Returns the kernel of the transposed convolution."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


convolve.defvjp(_convolve_forward, _convolve_backward)
convolve_filter_gradient.defvjp(_convolve_filter_forward, _convolve_filter_backward)


def _convolve(x: Images, kernel: Kernel) -> Images:
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_NUMBERS)


def convolve_repeated(x: Images, kernel: jax.Array) -> Images:
    """Convolves 3x3 what repetition makes of x: [batch, h, w, inputs] -> [batch, 2h, 2w, outputs].

    It is the transposed convolution by the sums of taps that meet one pixel of x, with 4 products
    an output instead of 9.

    Args:
        x: before the repetition.
        kernel: [3, 3, inputs, outputs], of the convolution with a padding of 1 after it.
    """
    return double(x, _reverse(_add_shifts(kernel)))


def convolve_and_average(x: Images, kernel: jax.Array) -> Images:
    """Convolves 3x3 and averages tiles of 2x2: [batch, 2h, 2w, inputs] -> [batch, h, w, outputs].

    It is the convolution of stride 2 by the means of shifted kernels, with 16 products an output
    instead of 36.

    Args:
        x: of even height and width.
        kernel: [3, 3, inputs, outputs], of the convolution with a padding of 1.
    """
    return halve(x, _add_shifts(kernel) / 4)


def _add_shifts(kernel: jax.Array) -> jax.Array:
    """Returns the sum of a 3x3 kernel at the four places in 4x4."""
    shifts = itertools.product(((0, 1), (1, 0)), repeat=2)
    return sum(jnp.pad(kernel, (*shift, (0, 0), (0, 0))) for shift in shifts)


@jax.custom_vjp
def halve(x: Images, kernel: Kernel) -> Images:
    """Convolves with stride 2: [batch, 2h, 2w, wide] -> [batch, h, w, narrow]."""
    return _convolve(x, kernel)


@jax.custom_vjp
def double(y: Images, kernel: Kernel) -> Images:
    """Applies the transpose of `halve`: [batch, h, w, narrow] -> [batch, 2h, 2w, wide].

    On CPUs a narrow result is convolved in tiles, since XLA convolves an image with zeros between
    its pixels at 0.6 of the speed (benchmarks/convolutions.py).
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
