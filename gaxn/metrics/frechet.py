"""Frechet distance between Gaussians fitted to features (Heusel et al., 2017, eq. 6).

Float64, covariances with ddof 1, no epsilon on the diagonal. Its standard error leaves out a
tenth of the samples at a time, drawn once; the reference holds still.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Outline, Result
from gaxn.statistics import gaussian, jackknife
from gaxn.statistics.gaussian import Moments

TAKES = ("features",)
FIGURES = ("frechet_distance",)
FEWEST = 2
FOLDS, SEED = 10, 2020


class State(NamedTuple):
    """The moments of each tenth of a set.

    Attributes:
        count: examples in all, those that are still to come included.
        folds: by a permutation of their indices, which may be sorted by class.
    """

    count: np.ndarray
    folds: Moments


def empty(outline: Outline) -> State:
    """Nothing seen yet.

    Raises:
        ValueError: covariances of so many features take too much memory.
    """
    return State(np.array(outline.count), gaussian.grouped(outline.features, FOLDS))


def update(
    state: State, indices: Int[np.ndarray, "batch"], features: Float[np.ndarray, "batch features"]
) -> State:
    """Adds features."""
    return State(
        state.count, gaussian.add(state.folds, _folds(int(state.count))[indices], features)
    )


def merge(a: State, b: State) -> State:
    """The moments of both."""
    return State(a.count, gaussian.merge_groups(a.folds, b.folds))


def of_gaussian(
    mean: Float[np.ndarray, "features"], covariance: Float[np.ndarray, "features features"]
) -> State:
    """A state that says no more than a Gaussian, for a reference of which that is all we have.

    Raises:
        ValueError: these are no mean and covariance.
    """
    gaussian.check(mean, covariance)
    whole = empty(Outline(2, len(mean)))
    for field, value in zip(whole.folds, Moments(np.array(2), mean, covariance), strict=True):
        field[0] = value
    return whole


def together(state: State, without: int = -1) -> Moments:
    """The moments of all, or of all but one fold."""
    total = gaussian.nothing(state.folds.mean.shape[-1])
    for index in range(FOLDS):
        if index != without:
            total = gaussian.merge(total, gaussian.group(state.folds, index))
    return total


def compute(state: State, reference: State) -> Result:
    """The distance to the reference, 0 or more.

    Raises:
        ValueError: a side has fewer than two examples.
    """
    fixed = gaussian.fix(together(reference))
    figures = {"frechet_distance": gaussian.distance(together(state), fixed)}
    if (state.folds.count > 0).all():
        left_out = [gaussian.distance(together(state, fold), fixed) for fold in range(FOLDS)]
        figures["frechet_distance_error"] = jackknife.standard_error(np.array(left_out))
    return Result(figures)


@functools.lru_cache(maxsize=8)
def _folds(count: int) -> Int[np.ndarray, "examples"]:
    """The fold of each index: tenths of a permutation."""
    folds = np.random.RandomState(SEED).permutation(count) * FOLDS // count
    folds.flags.writeable = False
    return folds
