"""Mean distance between the features of two samples, over all pairs of a set."""

import numpy as np

from gaxn.metrics import Result
from gaxn.statistics import jackknife, pairwise, rows
from gaxn.statistics.rows import State, empty, merge, update

__all__ = ["State", "empty", "merge", "update"]

TAKES = ("features",)
FIGURES = ("diversity",)
FEWEST = 3


def compute(state: State, _: State | None = None) -> Result:
    """The distance, in units of the features, and its jackknife error; needs 3 examples."""
    table = rows.features(state)
    features, _ = pairwise.centred(table, table)
    if len(features) < FEWEST:
        raise ValueError(f"pairs of others need {FEWEST} examples or more, not {len(features)}")

    def of_block(block: slice) -> np.ndarray:
        apart = pairwise.squared_distances(features[block], features)
        places = np.arange(block.start, block.stop)
        apart[places - block.start, places] = 0
        return np.sqrt(apart, out=apart).sum(axis=1)

    sums = np.concatenate(pairwise.over_blocks(len(features), len(features), of_block))
    count = len(sums)
    without = (sums.sum() - 2 * sums) / ((count - 1) * (count - 2))
    return Result(
        {
            "diversity": float(sums.sum() / (count * (count - 1))),
            "diversity_error": jackknife.standard_error(without),
        }
    )
