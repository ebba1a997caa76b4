"""Frechet distance class by class, and its mean (intra-FID; Miyato & Koyama, 2018, section 4)."""

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Outline, Result
from gaxn.statistics import gaussian
from gaxn.statistics.gaussian import Moments, merge_groups

TAKES = ("labels", "features")
FIGURES = ("intra_frechet_distance",)
FEWEST = 2

State = Moments
merge = merge_groups


def empty(outline: Outline) -> State:
    """Nothing seen yet of any class.

    Raises:
        ValueError: so many covariances of this size take too much memory.
    """
    return gaussian.grouped(outline.features, outline.labels)


def update(
    state: State,
    _: Int[np.ndarray, "batch"],
    labels: Int[np.ndarray, "batch"],
    features: Float[np.ndarray, "batch features"],
) -> State:
    """Adds labels and features."""
    return gaussian.add(state, labels, features)


def compute(state: State, reference: State) -> Result:
    """The mean over the classes, and the distance of each.

    Classes of fewer than two examples on either side are left out, and None in the table.
    """
    both = (state.count > 1) & (reference.count > 1)
    found = [
        gaussian.distance(
            gaussian.group(state, label), gaussian.fix(gaussian.group(reference, label))
        )
        if enough
        else None
        for label, enough in enumerate(both)
    ]
    values = np.array([value for value in found if value is not None])
    if not len(values):
        return Result({})
    return Result(
        {"intra_frechet_distance": float(values.mean())}, {"intra_frechet_distance": found}
    )
