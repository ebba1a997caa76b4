"""Sliced Wasserstein distance between sets of features (Rabin et al., 2011, definition 1).

The mean over 512 fixed random directions of the Wasserstein-1 distance between the projections.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.metrics.statistics import pairwise, rows
from gaxn.metrics.statistics.rows import State, empty, merge, update

__all__ = ["State", "empty", "merge", "update"]

INPUTS = ("features",)
FIGURES = ("sliced_wasserstein",)
MIN_COUNT = 1
RELIABLE_COUNT = 1_000
DIRECTIONS, SEED, SLICE = 512, 2020, 16


def compute(state: State, reference: State) -> Result:
    """Returns the distance, in units of the features; the sets may differ in size."""
    generated, real = rows.features(state), rows.features(reference)
    axes = directions(generated.shape[1])

    def project(block: slice) -> np.ndarray:
        part = axes[:, SLICE * block.start : SLICE * block.stop]
        return distances(generated @ part, real @ part)

    slices = pairwise.map_blocks(DIRECTIONS // SLICE, pairwise.BLOCK, project)
    return Result({"sliced_wasserstein": float(np.concatenate(slices).mean())})


def directions(features: int) -> np.ndarray:
    """Returns unit vectors, uniform on the sphere, float64 [features, 512]."""
    vectors = np.random.RandomState(SEED).normal(size=(features, DIRECTIONS))
    return vectors / np.linalg.norm(vectors, axis=0)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the integral of |F^-1 - G^-1| for each column of two samples, [m, k] and [n, k]."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    m, n = len(a), len(b)
    # Both quantile functions are constant between these ends, which are in units of 1 / (m n).
    ends = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
    widths = np.diff(ends, prepend=0)
    last = ends - 1
    return widths @ np.abs(a[last // n] - b[last // m]) / (m * n)
