"""Kernel Inception distance: the squared MMD of features (Binkowski et al., 2018, section 4).

The kernel is (x.y / d + 1)^3. `kid` is the mean over 100 pairs of subsets of 1,000 (or of all
where there are fewer), drawn as torch-fidelity draws them; `kid_subset_deviation` is their
standard deviation, which is no standard error. `kid_unbiased` is the estimate from all pairs.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.statistics import jackknife, pairwise, rows
from gaxn.statistics.rows import State, empty, merge, update

__all__ = ["State", "empty", "merge", "update"]

TAKES = ("features",)
FIGURES = ("kid", "kid_subset_deviation", "kid_unbiased")
FEWEST = 3
SUBSETS, SUBSET_SIZE, SEED = 100, 1_000, 2020


def compute(state: State, reference: State) -> Result:
    """Both estimates; 0 in expectation for equal distributions, and then often below it."""
    generated, real = rows.features(state), rows.features(reference)
    for side in (generated, real):
        if len(side) < FEWEST:
            raise ValueError(
                f"an unbiased estimate needs {FEWEST} examples or more, not {len(side)}"
            )
    subsets = _subsets(generated, real)
    value, error = unbiased(generated, real)
    return Result(
        {
            "kid": float(subsets.mean()),
            "kid_subset_deviation": float(subsets.std()),
            "kid_unbiased": value,
            "kid_unbiased_error": error,
        }
    )


def unbiased(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The U-statistic over all pairs (Gretton et al., 2012, eq. 3) and its jackknife error.

    Args:
        x, y: features, float64 [m, d] and [n, d], m and n 3 or more.
    """
    m, n = len(x), len(y)
    xx, yy = _sums(x, x)[0] - _diagonal(x), _sums(y, y)[0] - _diagonal(y)
    xy, yx = _sums(x, y)
    within_x, within_y = xx.sum() / (m * (m - 1)), yy.sum() / (n * (n - 1))
    across = xy.sum()
    value = within_x + within_y - 2 * across / (m * n)
    without_x = (
        (xx.sum() - 2 * xx) / ((m - 1) * (m - 2)) + within_y - 2 * (across - xy) / ((m - 1) * n)
    )
    without_y = (
        (yy.sum() - 2 * yy) / ((n - 1) * (n - 2)) + within_x - 2 * (across - yx) / ((n - 1) * m)
    )
    errors = jackknife.standard_error(without_x), jackknife.standard_error(without_y)
    return float(value), float(np.hypot(*errors))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    product = x @ y.T
    product /= x.shape[1]
    product += 1
    return product * product * product


def _diagonal(x: np.ndarray) -> np.ndarray:
    return (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3


def _sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the rows and of the columns of the kernel's matrix."""

    def of_block(block: slice) -> tuple[np.ndarray, np.ndarray]:
        kernel = _kernel(x[block], y)
        return kernel.sum(axis=1), kernel.sum(axis=0)

    by_row, by_column = zip(*pairwise.over_blocks(len(x), len(y), of_block), strict=True)
    return np.concatenate(by_row), np.sum(by_column, axis=0)


def _subsets(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = min(SUBSET_SIZE, len(x), len(y))
    random = np.random.RandomState(SEED)
    chosen = [
        (random.choice(len(x), size, replace=False), random.choice(len(y), size, replace=False))
        for _ in range(SUBSETS)
    ]

    def of_pair(block: slice) -> float:
        a, b = x[chosen[block.start][0]], y[chosen[block.start][1]]
        within = sum(_kernel(s, s).sum() - _diagonal(s).sum() for s in (a, b)) / (size * (size - 1))
        return within - 2 * _kernel(a, b).mean()

    return np.array(pairwise.over_blocks(SUBSETS, pairwise.BLOCK, of_pair))
