"""Intra-class Frechet distance: its mean over classes (Miyato & Koyama, 2018, section 4).

The features themselves are kept where they take less memory than the covariances of all classes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec
from gaxn.metrics.statistics import gaussian, rows
from gaxn.metrics.statistics.gaussian import Gaussian, Moments

INPUTS = ("labels", "features")
FIGURES = ("intra_frechet_distance",)
MIN_COUNT = 2
RELIABLE_COUNT = 1_000


class Rows(NamedTuple):
    """The labels and features of a set, and the number of different labels."""

    classes: np.ndarray
    labels: rows.State
    features: rows.State


State = Rows | Moments
"""All rows, or the moments of each label."""


def empty(spec: SetSpec) -> State:
    """Returns the rows or moments of no image.

    Raises:
        ValueError: the covariances would take too much memory.
    """
    if gaussian.is_kept_as_rows(spec.count, spec.features, spec.labels):
        return Rows(np.array(spec.labels), rows.empty(), rows.empty())
    return gaussian.empty_groups(spec.features, spec.labels)


def update(
    state: State,
    indices: Int[np.ndarray, " batch"],
    labels: Int[np.ndarray, " batch"],
    features: Float[np.ndarray, "batch features"],
) -> State:
    """Adds features to the moments of their labels, or to the rows."""
    if isinstance(state, Rows):
        return Rows(
            state.classes,
            rows.update(state.labels, indices, labels),
            rows.update(state.features, indices, features),
        )
    return gaussian.add_to_groups(state, labels, features)


def merge(a: State, b: State) -> State:
    """Returns the moments of both, label by label, or all their rows."""
    if isinstance(a, Rows):
        pairs = (a.labels, b.labels), (a.features, b.features)
        return Rows(a.classes, *(rows.merge(*pair) for pair in pairs))
    return gaussian.merge_groups(a, b)


def compute(state: State, reference: State) -> Result:
    """Returns the mean distance over the classes, and a table of the distance of each class.

    A class with fewer than two images in either set is None in the table and not in the mean.
    """
    distances = [
        None if a is None or b is None else gaussian.distance(a, b)
        for a, b in zip(_fit_classes(state), _fit_classes(reference), strict=True)
    ]
    values = [distance for distance in distances if distance is not None]
    if not values:
        return Result({})
    name = FIGURES[0]
    return Result({name: float(np.mean(values))}, {name: distances})


def _fit_classes(state: State) -> Iterator[Gaussian | None]:
    """Yields the Gaussian of each class, None of those with fewer than two images."""
    if isinstance(state, Rows):
        labels, features = rows.table(state.labels), rows.features(state.features)
        for label in range(int(state.classes)):
            members = labels == label
            yield gaussian.from_examples(features[members]) if members.sum() > 1 else None
    else:
        for label, count in enumerate(state.count):
            yield gaussian.from_moments(gaussian.group(state, label)) if count > 1 else None
