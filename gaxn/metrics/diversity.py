"""Diversity: the mean distance between the features of two images, over all pairs of a set."""

import numpy as np

from gaxn.metrics import Result
from gaxn.metrics.statistics import pairwise, rows
from gaxn.metrics.statistics.rows import State, empty, merge, update
from gaxn.metrics.statistics.standard_errors import jackknife_error

__all__ = ["State", "empty", "merge", "update"]

INPUTS = ("features",)
FIGURES = ("diversity",)
MIN_COUNT = 3
RELIABLE_COUNT = 100


def compute(state: State, _: State | None = None) -> Result:
    """Returns the mean distance, in units of the features, and its jackknife error.

    Raises:
        ValueError: the set has fewer than 3 images.
    """
    table = rows.features(state, MIN_COUNT)
    features, _ = pairwise.centered(table, table)
    count = len(table)

    def sum_rows(block: slice) -> np.ndarray:
        distances = pairwise.squared_distances(features[block], features)
        np.fill_diagonal(distances[:, block.start :], 0)
        return np.sqrt(distances, out=distances).sum(axis=1)

    sums = np.concatenate(pairwise.map_blocks(count, count, sum_rows))
    leave_one_out = (sums.sum() - 2 * sums) / ((count - 1) * (count - 2))
    diversity = float(sums.sum() / (count * (count - 1)))
    return Result({"diversity": diversity, "diversity_error": jackknife_error(leave_one_out)})
