"""A metric: the energy distance, which is 0 for equal distributions only and has no options."""

import numpy as np

from gaxn.metrics import Result
from gaxn.metrics.statistics import rows
from gaxn.metrics.statistics.pairwise import map_blocks, squared_distances


class EnergyDistance:
    """2 E|x - y| - E|x - x'| - E|y - y'|, x of samples, y of real images (Szekely & Rizzo, 2013).

    The means are over pairs of different images, so that the estimate is unbiased.
    """

    INPUTS, FIGURES, MIN_COUNT = ("features",), ("energy_distance",), 2
    empty, update, merge = map(staticmethod, (rows.empty, rows.update, rows.merge))

    @staticmethod
    def compute(state: rows.State, reference: rows.State) -> Result:
        x, y = rows.features(state, 2), rows.features(reference, 2)
        m, n = len(x), len(y)
        within = distance_sum(x, x) / (m * (m - 1)) + distance_sum(y, y) / (n * (n - 1))
        return Result({"energy_distance": 2 * distance_sum(x, y) / (m * n) - within})


def distance_sum(a: np.ndarray, b: np.ndarray) -> float:
    sums = map_blocks(len(a), len(b), lambda part: np.sqrt(squared_distances(a[part], b)).sum())
    return float(sum(sums))
