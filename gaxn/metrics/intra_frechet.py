"""Intra-class Frechet distance: its mean over classes (Miyato & Koyama, 2018, section 4)."""

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec
from gaxn.metrics.statistics import gaussian
from gaxn.metrics.statistics.gaussian import Moments, merge_groups

INPUTS = ("labels", "features")
FIGURES = ("intra_frechet_distance",)
MIN_COUNT = 2
RELIABLE_COUNT = 1_000

State = Moments
merge = merge_groups


def empty(spec: SetSpec) -> State:
    """Returns the moments of no image for each label.

    Raises:
        ValueError: the covariances would take too much memory.
    """
    return gaussian.empty_groups(spec.features, spec.labels)


def update(
    state: State,
    _: Int[np.ndarray, "batch"],
    labels: Int[np.ndarray, "batch"],
    features: Float[np.ndarray, "batch features"],
) -> State:
    """Adds features to the moments of their labels."""
    return gaussian.add_to_groups(state, labels, features)


def compute(state: State, reference: State) -> Result:
    """Returns the mean distance over the classes, and a table of the distance of each class.

    A class with fewer than two images in either set is None in the table and not in the mean.
    """
    distances: list[float | None] = [None] * len(state.count)
    for label in np.flatnonzero((state.count > 1) & (reference.count > 1)):
        both = (gaussian.from_moments(gaussian.group(each, label)) for each in (state, reference))
        distances[label] = gaussian.distance(*both)
    values = [distance for distance in distances if distance is not None]
    if not values:
        return Result({})
    name = FIGURES[0]
    return Result({name: float(np.mean(values))}, {name: distances})
