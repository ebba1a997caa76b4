"""Frechet distance between Gaussians fitted to features (Heusel et al., 2017, eq. 6).

Float64, covariances with ddof 1, no epsilon on the diagonal.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class State(NamedTuple):
    """Running moments: how many, their mean and the sum of squared deviations."""

    count: int
    mean: Float[np.ndarray, "features"]
    scatter: Float[np.ndarray, "features features"]


def empty(features: int) -> State:
    """Nothing seen yet."""
    return State(0, np.zeros(features), np.zeros((features, features)))


def update(state: State, features: Float[np.ndarray, "batch features"]) -> State:
    """Adds a batch of features of any size."""
    features = np.asarray(features, np.float64)
    if not len(features):
        return state
    mean = features.mean(axis=0)
    centred = features - mean
    return merge(state, State(len(features), mean, centred.T @ centred))


def merge(a: State, b: State) -> State:
    """The moments of both together (Chan et al., 1983, eq. 2.1)."""
    count = a.count + b.count
    if not count:
        return a
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count)
    return State(count, mean, scatter)


def compute(state: State, reference: State) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2).

    Raises:
        ValueError: a state has fewer than two examples.
    """
    for side in (state, reference):
        if side.count < 2:
            raise ValueError(f"a covariance needs 2 examples or more; there are {side.count}")
    first = state.scatter / (state.count - 1)
    second = reference.scatter / (reference.count - 1)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    shift = state.mean - reference.mean
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * cross)
