"""Precision of sums, softmaxes and outputs in networks that compute in bfloat16."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from gaxn.nn.convolution import convolve_as_flax


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns float32, or `dtype` if that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """Converts x to float32, unless its type is wider."""
    return x.astype(wide_dtype(x.dtype))


def promote(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, dtype: DTypeLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Converts the operands of a layer's product to `dtype`, and leaves its bias as it is.

    The result of the layer then is as wide as the bias. The gradient of a bias is a sum over the
    batch and all positions; in bfloat16 such a sum stops growing at 256 times its addends.
    """
    x, kernel = promote_dtype(x, kernel, dtype=dtype)
    return x, kernel, bias


Dense = partial(nn.Dense, promote_dtype=promote)
"""A dense layer with a float32 bias and result, whatever the `dtype` of its products."""

Conv = partial(nn.Conv, promote_dtype=promote, conv_general_dilated=convolve_as_flax)
"""A convolution with a float32 bias and result, whatever the `dtype` of its products."""
