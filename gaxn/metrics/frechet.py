"""Frechet distance between Gaussians fitted to features (Heusel et al., 2017, eq. 6).

Computed in float64, with covariances of ddof 1 and no epsilon on the diagonal. The standard error
is a jackknife over ten random folds of the scored set; the reference stays fixed. The features
themselves are kept where they take less memory than ten covariances: that is exact, and faster.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec
from gaxn.metrics.statistics import gaussian, rows
from gaxn.metrics.statistics.gaussian import Gaussian, Moments
from gaxn.metrics.statistics.standard_errors import jackknife_error

INPUTS = ("features",)
FIGURES = ("frechet_distance",)
MIN_COUNT = 2
RELIABLE_COUNT = 1_000
FOLDS, SEED = 10, 2020


class State(NamedTuple):
    """The moments of each fold of a set.

    Attributes:
        count: size of the full set, images not yet added included; it determines the folds.
        folds: moments of each fold; a permutation assigns images to folds, because a set may be
            sorted by class.
    """

    count: np.ndarray
    folds: Moments


def empty(spec: SetSpec) -> State | rows.State:
    """Returns folds without images, or a table without rows if the rows take less memory.

    Raises:
        ValueError: the covariances would take too much memory.
    """
    if gaussian.is_kept_as_rows(spec.count, spec.features, FOLDS):
        return rows.empty()
    return State(np.array(spec.count), gaussian.empty_groups(spec.features, FOLDS))


def update(
    state: State | rows.State,
    indices: Int[np.ndarray, " batch"],
    features: Float[np.ndarray, "batch features"],
) -> State | rows.State:
    """Adds features to the folds of their images, or to the table."""
    if isinstance(state, rows.State):
        return rows.update(state, indices, features)
    folds = _folds(int(state.count))[indices]
    return State(state.count, gaussian.add_to_groups(state.folds, folds, features))


def merge(a: State | rows.State, b: State | rows.State) -> State | rows.State:
    """Returns the moments of both, fold by fold, or all their rows."""
    if isinstance(a, rows.State):
        return rows.merge(a, b)
    return State(a.count, gaussian.merge_groups(a.folds, b.folds))


def from_gaussian(
    mean: Float[np.ndarray, " features"], covariance: Float[np.ndarray, "features features"]
) -> State:
    """Returns a state with this mean and covariance, for use as a reference only.

    Raises:
        ValueError: the arrays are not the mean and covariance of a Gaussian.
    """
    gaussian.check_moments(mean, covariance)
    state = State(np.array(2), gaussian.empty_groups(len(mean), FOLDS))
    # With a count of 2 and ddof 1 the scatter is the covariance.
    for field, value in zip(state.folds, Moments(np.array(2), mean, covariance), strict=True):
        field[0] = value
    return state


def fit(state: State | rows.State, left_out: int | None = None) -> Gaussian:
    """Returns the Gaussian of all images, or of those outside one fold.

    Raises:
        ValueError: there are fewer than two images.
    """
    if isinstance(state, rows.State):
        features = rows.features(state)
        return gaussian.from_examples(features[_folds(len(features)) != left_out])
    total = gaussian.empty_moments(state.folds.mean.shape[-1])
    for index in range(FOLDS):
        if index != left_out:
            total = gaussian.merge(total, gaussian.group(state.folds, index))
    return gaussian.from_moments(total)


def compute(state: State | rows.State, reference: State | rows.State) -> Result:
    """Returns the distance to the reference, 0 or more, and its error if no fold is empty.

    Raises:
        ValueError: a set has fewer than two images.
    """
    state, fixed = _by_fold(state), fit(reference)
    figures = {"frechet_distance": gaussian.distance(fit(state), fixed)}
    if _count(state) >= FOLDS:
        leave_one_out = [gaussian.distance(fit(state, fold), fixed) for fold in range(FOLDS)]
        figures["frechet_distance_error"] = jackknife_error(np.array(leave_one_out))
    return Result(figures)


def _by_fold(state: State | rows.State) -> State | rows.State:
    """Returns the moments of each fold, if there are more images than features."""
    if not isinstance(state, rows.State):
        return state
    features = rows.features(state)
    count, width = features.shape
    if count <= width:
        return state
    moments = gaussian.add_to_groups(gaussian.empty_groups(width, FOLDS), _folds(count), features)
    return State(np.array(count), moments)


def _count(state: State | rows.State) -> int:
    """Returns the number of images."""
    if isinstance(state, rows.State):
        return sum(map(len, state.indices))
    return int(state.folds.count.sum())


@functools.lru_cache(maxsize=8)
def _folds(count: int) -> Int[np.ndarray, " count"]:
    """Returns the fold of each index: tenths of a random permutation."""
    folds = np.random.RandomState(SEED).permutation(count) * FOLDS // count
    folds.flags.writeable = False
    return folds
