"""Inception score: exp of the mean KL(p(y|x) || p(y)) (Salimans et al., 2016, section 4).

The score is a mean over ten splits of the images, shuffled as in torch-fidelity. Scores of
different feature extractors are not comparable, because their classes differ.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec

INPUTS = ("logits",)
FIGURES = ("inception_score", "inception_score_split_deviation")
MIN_COUNT = 1
SPLITS, SEED = 10, 2020


class State(NamedTuple):
    """Sums over the images of each split.

    Attributes:
        split: the split of each index.
        count: number of images.
        probabilities: sum of p(y|x).
        negentropy: sum over images and classes of p(y|x) log p(y|x).
    """

    split: Int[np.ndarray, "examples"]
    count: Int[np.ndarray, "splits"]
    probabilities: Float[np.ndarray, "splits classes"]
    negentropy: Float[np.ndarray, "splits"]


def empty(spec: SetSpec) -> State:
    """Returns sums of 0."""
    count = spec.count
    bounds = np.arange(1, SPLITS + 1) * count // SPLITS
    split = np.empty(count, np.int64)
    split[np.random.RandomState(SEED).permutation(count)] = np.searchsorted(
        bounds, np.arange(count), side="right"
    )
    return State(
        split, np.zeros(SPLITS, np.int64), np.zeros((SPLITS, spec.classes)), np.zeros(SPLITS)
    )


def update(
    state: State, indices: Int[np.ndarray, "batch"], logits: Float[np.ndarray, "batch classes"]
) -> State:
    """Adds logits, as probabilities in float64."""
    log_p = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    split = state.split[indices]
    count, probabilities, negentropy = (field.copy() for field in state[1:])
    np.add.at(count, split, 1)
    np.add.at(probabilities, split, p)
    np.add.at(negentropy, split, (p * log_p).sum(axis=1))
    return State(state.split, count, probabilities, negentropy)


def merge(a: State, b: State) -> State:
    """Returns the sums over the images of both."""
    return State(a.split, *(x + y for x, y in zip(a[1:], b[1:], strict=True)))


def compute(state: State, _: State | None = None) -> Result:
    """Returns mean and standard deviation over the splits of a score in [1, classes]."""
    count = state.count[state.count > 0]
    p = state.probabilities[state.count > 0] / count[:, None]
    marginal = (p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    scores = np.exp(state.negentropy[state.count > 0] / count - marginal)
    return Result(
        {
            "inception_score": float(scores.mean()),
            "inception_score_split_deviation": float(scores.std()),
        }
    )
