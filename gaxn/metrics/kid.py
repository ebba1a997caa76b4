"""Kernel Inception distance: the squared MMD of features (Binkowski et al., 2018, section 4).

The kernel is (x.y / d + 1)^3; of features of any size, the third power makes any number. `kid` is
the mean over 100 pairs of subsets of 1,000 images (or of the size of the smaller set), drawn as in
torch-fidelity. `kid_subset_deviation` is their standard deviation, not a standard error; it is left
out if both sets are a single subset. `kid_unbiased` is the estimate from all pairs of images.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.metrics.statistics import pairwise, rows
from gaxn.metrics.statistics.rows import State, empty, merge, update
from gaxn.metrics.statistics.standard_errors import jackknife_error

__all__ = ["State", "empty", "merge", "update"]

INPUTS = ("features",)
FIGURES = ("kid", "kid_unbiased")
MIN_COUNT = 3
RELIABLE_COUNT = 1_000
NEEDS_UNIT_SCALE = True
SUBSETS, SUBSET_SIZE, SEED = 100, 1_000, 2020


def compute(state: State, reference: State) -> Result:
    """Returns both estimates, whose expectation is 0 for equal distributions; so often below 0.

    Raises:
        ValueError: a set has fewer than 3 images.
    """
    generated, real = (rows.features(each, MIN_COUNT) for each in (state, reference))
    subsets = subset_estimates(generated, real)
    estimate, error = unbiased(generated, real)
    figures = {"kid": float(subsets.mean())}
    if max(len(generated), len(real)) > min(SUBSET_SIZE, len(generated), len(real)):
        # Otherwise all subsets are the full sets.
        figures["kid_subset_deviation"] = float(subsets.std())
    return Result({**figures, "kid_unbiased": estimate, "kid_unbiased_error": error})


def unbiased(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the U-statistic over all pairs (Gretton et al., 2012, eq. 3) and its jackknife error.

    Args:
        x, y: features, float64 [m, d] and [n, d], m and n 3 or more.
    """
    m, n = len(x), len(y)
    xx, yy = (_sums_within(each) - _diagonal(each) for each in (x, y))
    xy, yx = _kernel_sums(x, y)
    within_x, within_y = xx.sum() / (m * (m - 1)), yy.sum() / (n * (n - 1))
    across = xy.sum()
    estimate = within_x + within_y - 2 * across / (m * n)
    without_x = (
        (xx.sum() - 2 * xx) / ((m - 1) * (m - 2)) + within_y - 2 * (across - xy) / ((m - 1) * n)
    )
    without_y = (
        (yy.sum() - 2 * yy) / ((n - 1) * (n - 2)) + within_x - 2 * (across - yx) / ((n - 1) * m)
    )
    error = np.hypot(jackknife_error(without_x), jackknife_error(without_y))
    return float(estimate), float(error)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T
    # In place: a new matrix for each operation takes as long as the product.
    base /= x.shape[1]
    base += 1
    square = base * base
    square *= base
    return square


def _diagonal(x: np.ndarray) -> np.ndarray:
    return (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3


def _kernel_sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the kernel matrix over columns, [m], and over rows, [n]."""

    def sum_block(block: slice) -> tuple[np.ndarray, np.ndarray]:
        kernel = _kernel(x[block], y)
        return kernel.sum(axis=1), kernel.sum(axis=0)

    by_row, by_column = zip(*pairwise.map_blocks(len(x), len(y), sum_block), strict=True)
    return np.concatenate(by_row), np.sum(by_column, axis=0)


def _sums_within(x: np.ndarray) -> np.ndarray:
    """Returns the sums over columns of the kernel matrix of x with itself, [m], from one half."""

    def sum_block(block: slice) -> tuple[slice, np.ndarray, np.ndarray]:
        kernel = _kernel(x[block], x[block.start :])
        return block, kernel.sum(axis=1), kernel[:, block.stop - block.start :].sum(axis=0)

    sums = np.zeros(len(x))
    for block, of_rows, of_columns in pairwise.map_blocks(len(x), len(x), sum_block):
        sums[block] += of_rows
        sums[block.stop :] += of_columns
    return sums


def subset_estimates(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the estimate from each pair of subsets of two sets of features, float64."""
    size = min(SUBSET_SIZE, len(x), len(y))
    random = np.random.RandomState(SEED)
    subsets = [
        (random.choice(len(x), size, replace=False), random.choice(len(y), size, replace=False))
        for _ in range(SUBSETS)
    ]

    def estimate(block: slice) -> float:
        x_indices, y_indices = subsets[block.start]
        a, b = x[x_indices], y[y_indices]
        within = sum(_kernel(s, s).sum() - _diagonal(s).sum() for s in (a, b)) / (size * (size - 1))
        return within - 2 * _kernel(a, b).mean()

    return np.array(pairwise.map_blocks(SUBSETS, pairwise.BLOCK, estimate))
