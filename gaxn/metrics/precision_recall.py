"""Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

The manifold of a set is the union of balls around its features; the radius of a ball is the
distance to the k-th nearest neighbor within the set. Precision and recall use k = 3 and `<=` (eq. 1
and 2), density and coverage k = 5 and `<` (eq. 5 and 6). Standard errors treat the radii as fixed.
"""

import numpy as np

from gaxn.metrics import Result
from gaxn.metrics.statistics import pairwise, rows
from gaxn.metrics.statistics.rows import State, empty, merge, update
from gaxn.metrics.statistics.standard_errors import standard_error

__all__ = ["State", "empty", "merge", "update"]

INPUTS = ("features",)
FIGURES = ("precision", "recall", "density", "coverage")
PRECISION_NEIGHBORS, DENSITY_NEIGHBORS = 3, 5
MIN_COUNT = DENSITY_NEIGHBORS + 1
RELIABLE_COUNT = 1_000


def compute(state: State, reference: State) -> Result:
    """Returns precision, recall and coverage in [0, 1], and density.

    Density is 0 or more, and 1 in expectation for equal distributions.

    Raises:
        ValueError: a set has fewer than 6 images, so no fifth neighbor.
    """
    tables = (rows.features(each, MIN_COUNT) for each in (state, reference))
    generated, real = pairwise.centered(*tables)
    real_precision_radii, real_density_radii = _squared_radii(real)
    generated_radii, _ = _squared_radii(generated)

    def compare(block: slice) -> tuple[np.ndarray, ...]:
        distances = pairwise.squared_distances(real[block], generated)
        return (
            (distances <= real_precision_radii[block, None]).any(axis=0),
            (distances <= generated_radii).any(axis=1),
            _is_inside(distances, real_density_radii[block, None]).sum(axis=0),
            _is_inside(distances.min(axis=1), real_density_radii[block]),
        )

    blocks = pairwise.map_blocks(len(real), len(generated), compare)
    precise, recalled, dense, covered = zip(*blocks, strict=True)
    density = np.sum(dense, axis=0) / DENSITY_NEIGHBORS
    values = np.any(precise, axis=0), np.concatenate(recalled), density, np.concatenate(covered)
    figures = {}
    for name, each in zip(FIGURES, values, strict=True):
        figures[name] = float(each.mean())
        figures[f"{name}_error"] = standard_error(each.astype(float))
    return Result(figures)


def _is_inside(distances: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns which distances are below the radii; an image is inside its own ball of radius 0."""
    return (distances < radii) | (distances == 0)


def _squared_radii(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the squared distance of each row to its third and to its fifth nearest neighbor."""
    ranks = [PRECISION_NEIGHBORS - 1, DENSITY_NEIGHBORS - 1]

    def partition(block: slice) -> np.ndarray:
        distances = pairwise.squared_distances(features[block], features)
        np.fill_diagonal(distances[:, block.start :], np.inf)
        return np.partition(distances, ranks, axis=1)[:, ranks]

    radii = np.concatenate(pairwise.map_blocks(len(features), len(features), partition))
    return radii[:, 0], radii[:, 1]
