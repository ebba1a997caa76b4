"""The nearest of a stream of images to each of a few: is a sample a copy of a training image?

Unlike the other metrics it has no set of its own: `empty` takes the features that ask, and the
stream may be of any length.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.statistics import pairwise

CLOSE = 0.01
"""The share of unseen real images that are as near to a training image as a copy would be."""


class State(NamedTuple):
    """The nearest so far, ascending.

    Attributes:
        queries: features of those who ask.
        distances: squared, infinite where there is none yet.
        indices: of the nearest; -1 where there is none yet.
    """

    queries: Float[np.ndarray, "queries features"]
    distances: Float[np.ndarray, "queries nearest"]
    indices: Int[np.ndarray, "queries nearest"]


def empty(queries: Float[np.ndarray, "queries features"], nearest: int = 5) -> State:
    """None found yet."""
    shape = len(queries), nearest
    return State(queries.astype(np.float64), np.full(shape, np.inf), np.full(shape, -1))


def update(
    state: State, indices: Int[np.ndarray, "batch"], features: Float[np.ndarray, "batch features"]
) -> State:
    """Looks at a batch of any size."""
    # By the queries' mean, so that the batches do not change the rounding.
    seen, queries = pairwise.centred(features.astype(np.float64), state.queries)
    distances = pairwise.squared_distances(queries, seen)
    return _nearest(state, distances, np.broadcast_to(indices, distances.shape))


def merge(a: State, b: State) -> State:
    """The nearest that either found."""
    return _nearest(a, b.distances, b.indices)


def compute(state: State, reference: State) -> tuple[float, float, float]:
    """Median distance to the nearest, that of the reference, and the share that is too near.

    Args:
        state: generated images that ask.
        reference: real images that ask, which are not in the stream.

    Returns: the medians, in units of the features; and the share of generated images nearer
        than all but a hundredth of the reference: 0.01 where nothing is copied.
    """
    own, real = np.sqrt(state.distances[:, 0]), np.sqrt(reference.distances[:, 0])
    bound = np.quantile(real, CLOSE)
    return float(np.median(own)), float(np.median(real)), float((own <= bound).mean())


def _nearest(state: State, distances: np.ndarray, indices: np.ndarray) -> State:
    nearer = distances.min(axis=1) <= state.distances[:, -1]
    both = [
        np.concatenate([kept[nearer], new[nearer]], axis=1)
        for kept, new in ((state.distances, distances), (state.indices, indices))
    ]
    # Of equal distances the lower index, so that the order of the stream does not matter.
    order = np.lexsort(both[::-1])[:, : state.indices.shape[1]]
    found = state.distances.copy(), state.indices.copy()
    for table, candidates in zip(found, both, strict=True):
        table[nearer] = np.take_along_axis(candidates, order, axis=1)
    return State(state.queries, *found)
