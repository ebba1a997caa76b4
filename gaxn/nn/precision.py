"""Precision of sums, softmaxes and outputs in networks that compute in bfloat16."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns float32, or `dtype` if that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """Converts x to float32, unless its type is wider."""
    return x.astype(wide_dtype(x.dtype))
