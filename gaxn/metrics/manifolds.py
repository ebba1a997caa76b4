"""Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

A manifold is the union of the balls around the features of a set, each as wide as its k-th
nearest neighbour is far. k is 3 with `<=` for the first two (eq. 1 and 2), 5 with `<` for the
others (eq. 5 and 6). Standard errors hold the balls still.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.statistics import jackknife, pairwise, rows
from gaxn.statistics.rows import State, empty, merge, update

__all__ = ["State", "empty", "merge", "update"]

TAKES = ("features",)
FIGURES = ("precision", "recall", "density", "coverage")
NEAR, FAR = 3, 5
FEWEST = FAR + 1


def compute(state: State, reference: State) -> Result:
    """All four: in [0, 1], but for density, which is 0 or more and 1 for equal distributions.

    Raises:
        ValueError: a side has too few examples to have a fifth neighbour.
    """
    generated, real = pairwise.centred(rows.features(state), rows.features(reference))
    for side in (generated, real):
        if len(side) < FEWEST:
            raise ValueError(f"a neighbourhood needs {FEWEST} examples or more, not {len(side)}")
    near_real, far_real = _radii(real)
    near_generated, _ = _radii(generated)

    def of_block(block: slice) -> tuple[np.ndarray, ...]:
        apart = pairwise.squared_distances(real[block], generated)
        return (
            (apart <= near_real[block, None]).any(axis=0),
            (apart <= near_generated).any(axis=1),
            (apart < far_real[block, None]).sum(axis=0),
            apart.min(axis=1) < far_real[block],
        )

    found = pairwise.over_blocks(len(real), len(generated), of_block)
    precise, recalled, dense, covered = zip(*found, strict=True)
    values = {
        "precision": np.any(precise, axis=0).astype(float),
        "recall": np.concatenate(recalled).astype(float),
        "density": np.sum(dense, axis=0) / FAR,
        "coverage": np.concatenate(covered).astype(float),
    }
    figures = {}
    for name, each in values.items():
        figures[name] = float(each.mean())
        figures[f"{name}_error"] = jackknife.of_mean(each)
    return Result(figures)


def _radii(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The squared distance of each row to its third and fifth nearest other."""

    def of_block(block: slice) -> np.ndarray:
        apart = pairwise.squared_distances(features[block], features)
        places = np.arange(block.start, block.stop)
        apart[places - block.start, places] = np.inf
        return np.partition(apart, (NEAR - 1, FAR - 1), axis=1)[:, (NEAR - 1, FAR - 1)]

    found = np.concatenate(pairwise.over_blocks(len(features), len(features), of_block))
    return found[:, 0], found[:, 1]
