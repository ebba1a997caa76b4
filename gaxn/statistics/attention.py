"""What a map of attention weights says in two numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Weights = Float[Array, "batch heads queries keys"]
"""Each row sums to 1; queries and keys are the places of squares, row by row."""


def entropy(weights: Weights) -> jax.Array:
    """The mean entropy of a query's weights, as a share of its largest value, log(keys).

    1 is uniform attention, 0 attention to a single place.
    """
    logs = jnp.log(jnp.maximum(weights, 1e-30))
    return -(weights * logs).sum(axis=-1).mean() / np.log(weights.shape[-1])


def distance(weights: Weights) -> jax.Array:
    """The mean distance between a query and where it looks, in sides of the image.

    After Dosovitskiy et al., 2021 (appendix D.7). Uniform attention has about 0.52, a query that
    looks at itself 0.
    """
    queries, keys = (_places(count) for count in weights.shape[-2:])
    apart = np.linalg.norm(queries[:, None] - keys[None], axis=-1)
    return (weights * apart.astype(np.float32)).sum(axis=-1).mean()


def side(count: int) -> int:
    """Of the square that so many places are."""
    return round(np.sqrt(count))


def _places(count: int) -> Float[np.ndarray, "count 2"]:
    """The centres of the cells of a square, y and x in [0, 1]."""
    centres = (np.arange(side(count)) + 0.5) / side(count)
    return np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
