"""Frechet distance class by class, and its mean (intra-FID; Miyato & Koyama, 2018, section 4)."""

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Outline, Result
from gaxn.statistics import gaussian
from gaxn.statistics.gaussian import Moments, merge_groups
from gaxn.types import InputError

TAKES = ("labels", "features")
LIMIT = 2**31
"""Bytes that the covariances of one set may take."""

State = Moments
merge = merge_groups


def empty(outline: Outline) -> State:
    """Nothing seen yet of any class.

    Raises:
        InputError: so many covariances of this size take too much memory.
    """
    size = 8 * outline.labels * outline.features**2
    if size > LIMIT:
        raise InputError(
            f"metric intra_frechet: {outline.labels} covariances of {outline.features} features "
            f"take {size / 2**30:.1f} GiB; valid is up to {LIMIT / 2**30:.0f} GiB; leave it out"
        )
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
