"""Which numbers are narrow and which are wide, where a network computes in bfloat16."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def wide(dtype: DTypeLike) -> jnp.dtype:
    """float32, or the type itself where it is wider: for sums, softmaxes and losses."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    """The same numbers in `wide(x.dtype)`."""
    return x.astype(wide(x.dtype))
