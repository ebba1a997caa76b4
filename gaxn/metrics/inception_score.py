"""Inception score: exp of the mean KL(p(y|x) || p(y)) (Salimans et al., 2016, section 4).

The score is a mean over ten splits of the images, shuffled as in torch-fidelity. Scores of
different feature extractors are not comparable, because their classes differ.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec
from gaxn.metrics.statistics.probabilities import log_softmax

INPUTS = ("logits",)
FIGURES = ("inception_score", "inception_score_split_deviation")
SPLITS, SEED = 10, 2020
MIN_COUNT = 2 * SPLITS
RELIABLE_COUNT = 1_000


class State(NamedTuple):
    """Sums over the images of each split.

    Attributes:
        split: the split of each index.
        probabilities: sum of p(y|x).
        negentropy: sum over images and classes of p(y|x) log p(y|x).
    """

    split: Int[np.ndarray, " examples"]
    count: Int[np.ndarray, " splits"]
    probabilities: Float[np.ndarray, "splits classes"]
    negentropy: Float[np.ndarray, " splits"]


def empty(spec: SetSpec) -> State:
    """Returns sums of 0."""
    bounds = np.arange(1, SPLITS + 1) * spec.count // SPLITS
    positions = np.argsort(np.random.RandomState(SEED).permutation(spec.count))
    split, count = np.searchsorted(bounds, positions, side="right"), np.zeros(SPLITS, np.int64)
    return State(split, count, np.zeros((SPLITS, spec.classes)), np.zeros(SPLITS))


def update(
    state: State, indices: Int[np.ndarray, " batch"], logits: Float[np.ndarray, "batch classes"]
) -> State:
    """Adds logits, as probabilities in float64."""
    log_p = log_softmax(logits)
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
    count, probabilities, negentropy = (field[state.count > 0] for field in state[1:])
    p = probabilities / count[:, None]
    marginal = (p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    scores = np.exp(negentropy / count - marginal)
    return Result(dict(zip(FIGURES, (float(scores.mean()), float(scores.std())), strict=True)))
