"""Statistics of attention maps: entropy and mean distance."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Weights = Float[Array, "batch heads queries keys"]
"""Attention weights. Each row sums to 1; queries and keys are the cells of squares, row by row."""


def entropy(weights: Weights) -> jax.Array:
    """Returns the mean entropy of the rows, divided by its largest possible value, log(keys).

    1 is uniform attention, 0 attention to a single key.
    """
    logs = jnp.log(jnp.maximum(weights, 1e-30))
    return -(weights * logs).sum(axis=-1).mean() / np.log(weights.shape[-1])


def distance(weights: Weights) -> jax.Array:
    """Returns the mean distance from a query to its keys, weighted by attention, in image sides.

    After Dosovitskiy et al., 2021 (appendix D.7). Uniform attention has about 0.52, attention of
    each query to its own cell 0.
    """
    queries, keys = (_cell_centers(count) for count in weights.shape[-2:])
    distances = np.linalg.norm(queries[:, None] - keys[None], axis=-1)
    return (weights * distances.astype(np.float32)).sum(axis=-1).mean()


def side(count: int) -> int:
    """Returns the number of cells along the side of a square of `count` cells."""
    return round(np.sqrt(count))


def _cell_centers(count: int) -> Float[np.ndarray, "count 2"]:
    """Returns the centers of the cells of a square, y and x in [0, 1]."""
    centers = (np.arange(side(count)) + 0.5) / side(count)
    return np.stack(np.meshgrid(centers, centers, indexing="ij"), axis=-1).reshape(-1, 2)
