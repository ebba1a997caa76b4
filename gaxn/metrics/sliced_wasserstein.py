"""Sliced Wasserstein distance between sets of features (Rabin et al., 2011, definition 1).

The mean, over 512 directions drawn once, of the distance of order 1 between the projections.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.statistics import pairwise, rows
from gaxn.statistics.rows import State, empty, merge, update

__all__ = ["State", "empty", "merge", "update"]

TAKES = ("features",)
FIGURES = ("sliced_wasserstein",)
FEWEST = 1
DIRECTIONS, SEED, SLICE = 512, 2020, 16


def compute(state: State, reference: State) -> Result:
    """The distance, in units of the features; sets of different sizes are fine."""
    generated, real = rows.features(state), rows.features(reference)
    axes = directions(generated.shape[1])

    def of_block(block: slice) -> np.ndarray:
        some = axes[:, SLICE * block.start : SLICE * block.stop]
        return distances(generated @ some, real @ some)

    found = pairwise.over_blocks(DIRECTIONS // SLICE, pairwise.BLOCK, of_block)
    return Result({"sliced_wasserstein": float(np.concatenate(found).mean())})


def directions(features: int) -> np.ndarray:
    """Uniform on the sphere, float64 [features, 512]."""
    drawn = np.random.RandomState(SEED).normal(size=(features, DIRECTIONS))
    return drawn / np.linalg.norm(drawn, axis=0)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The integral of |F^-1 - G^-1| for each column of two samples, [m, k] and [n, k]."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    m, n = len(a), len(b)
    # Both quantile functions are constant between these; counted in 1 / (m n).
    ends = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
    widths = np.diff(ends, prepend=0)
    before = ends - 1
    return widths @ np.abs(a[before // n] - b[before // m]) / (m * n)
