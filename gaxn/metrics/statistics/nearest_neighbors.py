"""Nearest neighbors of a few query images in a stream, to find copies of training images.

This is not a `Metric`: `empty` takes the features of the queries, and the stream may be of any
length.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics.statistics import pairwise

COPY_QUANTILE = 0.01
"""Share of unseen real images that are as close to a training image as a copy must be."""

RELIABLE_COUNT = 100
"""Unseen images below which the share of copies means little: their quantile is their minimum."""


class State(NamedTuple):
    """The nearest neighbors so far, in ascending order of their distance.

    Attributes:
        queries: features of the queries.
        distances: squared; infinite if there are too few neighbors yet.
        indices: of the neighbors in the stream; -1 if there are too few yet.
    """

    queries: Float[np.ndarray, "queries features"]
    distances: Float[np.ndarray, "queries nearest"]
    indices: Int[np.ndarray, "queries nearest"]


def empty(queries: Float[np.ndarray, "queries features"], nearest: int = 5) -> State:
    """Returns a state without neighbors."""
    shape = len(queries), nearest
    return State(queries.astype(np.float64), np.full(shape, np.inf), np.full(shape, -1))


def update(
    state: State, indices: Int[np.ndarray, " batch"], features: Float[np.ndarray, "batch features"]
) -> State:
    """Adds a batch of any size from the stream."""
    # Centered by the queries, so that the rounding does not depend on the batches.
    batch, queries = pairwise.centered(features.astype(np.float64), state.queries)
    distances = pairwise.squared_distances(queries, batch)
    return _nearest(state, distances, np.broadcast_to(indices, distances.shape))


def merge(a: State, b: State) -> State:
    """Returns the nearest neighbors in both streams."""
    return _nearest(a, b.distances, b.indices)


def compute(state: State, reference: State) -> tuple[float, float, float, float]:
    """Compares the distances of generated images with those of unseen real images.

    Args:
        state: neighbors of generated images.
        reference: neighbors of real images that are not in the stream.

    Returns:
        The median distance of the generated images to their nearest neighbor, in units of the
        features; that of the reference; the share of generated images that are at least as close
        as the closest hundredth of the reference; and the share to expect if nothing is copied.
        With n images of reference it is (1 + (n - 1) / 100) / (n + 1), the mean of the quantile of
        n uniform numbers: 0.01 for many, 0.02 for 100, 0.1 for ten.
    """
    generated, real = np.sqrt(state.distances[:, 0]), np.sqrt(reference.distances[:, 0])
    share = (generated <= np.quantile(real, COPY_QUANTILE)).mean()
    count = len(real)
    expected = (1 + (count - 1) * COPY_QUANTILE) / (count + 1)
    return float(np.median(generated)), float(np.median(real)), float(share), expected


def _nearest(state: State, distances: np.ndarray, indices: np.ndarray) -> State:
    changed = distances.min(axis=1) <= state.distances[:, -1]
    candidates = [
        np.concatenate([old[changed], new[changed]], axis=1)
        for old, new in ((state.distances, distances), (state.indices, indices))
    ]
    # At equal distance the lower index comes first, so the order of the stream does not matter.
    order = np.lexsort(candidates[::-1])[:, : state.indices.shape[1]]
    nearest = state.distances.copy(), state.indices.copy()
    for table, values in zip(nearest, candidates, strict=True):
        table[changed] = np.take_along_axis(values, order, axis=1)
    return State(state.queries, *nearest)
