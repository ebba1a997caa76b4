"""Inception score: exp of the mean KL(p(y|x) || p(y)) (Salimans et al., 2016, section 4).

Over ten splits of the samples, shuffled as torch-fidelity shuffles them. The classes are those
of the extractor: scores by different extractors have nothing to do with one another.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Outline, Result
from gaxn.statistics.probabilities import log_softmax

TAKES = ("logits",)
FIGURES = ("inception_score", "inception_score_split_deviation")
FEWEST = 1
SPLITS, SEED = 10, 2020


class State(NamedTuple):
    """Sums over the examples of each split.

    Attributes:
        split: of each index.
        count: examples seen.
        probabilities: sum of p(y|x).
        negentropy: sum over y too of p(y|x) log p(y|x).
    """

    split: Int[np.ndarray, "examples"]
    count: Int[np.ndarray, "splits"]
    probabilities: Float[np.ndarray, "splits classes"]
    negentropy: Float[np.ndarray, "splits"]


def empty(outline: Outline) -> State:
    """Nothing seen yet."""
    count = outline.count
    bounds = np.arange(1, SPLITS + 1) * count // SPLITS
    split = np.empty(count, np.int64)
    split[np.random.RandomState(SEED).permutation(count)] = np.searchsorted(
        bounds, np.arange(count), side="right"
    )
    return State(
        split, np.zeros(SPLITS, np.int64), np.zeros((SPLITS, outline.classes)), np.zeros(SPLITS)
    )


def update(
    state: State, indices: Int[np.ndarray, "batch"], logits: Float[np.ndarray, "batch classes"]
) -> State:
    """Adds logits."""
    logs = log_softmax(logits)
    found = np.exp(logs)
    split = state.split[indices]
    count, probabilities, negentropy = (field.copy() for field in state[1:])
    np.add.at(count, split, 1)
    np.add.at(probabilities, split, found)
    np.add.at(negentropy, split, (found * logs).sum(axis=1))
    return State(state.split, count, probabilities, negentropy)


def merge(a: State, b: State) -> State:
    """The sums of both."""
    return State(a.split, *(x + y for x, y in zip(a[1:], b[1:], strict=True)))


def compute(state: State, _: State | None = None) -> Result:
    """The mean over the splits, from 1 to the number of classes, and their deviation."""
    count = state.count[state.count > 0]
    probabilities = state.probabilities[state.count > 0] / count[:, None]
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    marginal = (probabilities * logs).sum(axis=1)
    scores = np.exp(state.negentropy[state.count > 0] / count - marginal)
    return Result(
        {
            "inception_score": float(scores.mean()),
            "inception_score_split_deviation": float(scores.std()),
        }
    )
