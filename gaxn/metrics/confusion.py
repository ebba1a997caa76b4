"""The confusion matrix, and what follows from it: accuracy, precision, recall and F1 a class."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class State(NamedTuple):
    """Counts: row = the label that was asked for, column = the class that was seen."""

    counts: Int[np.ndarray, "classes classes"]


class Scores(NamedTuple):
    """Figures in [0, 1]; a class never asked for or never seen scores 0."""

    accuracy: float
    precision: Float[np.ndarray, "classes"]
    recall: Float[np.ndarray, "classes"]
    f1: Float[np.ndarray, "classes"]


def empty(classes: int) -> State:
    """Nothing seen yet."""
    return State(np.zeros((classes, classes), np.int64))


def update(
    state: State, labels: Int[np.ndarray, "batch"], predictions: Int[np.ndarray, "batch"]
) -> State:
    """Adds a batch of any size."""
    counts = state.counts.copy()
    np.add.at(counts, (labels, predictions), 1)
    return State(counts)


def merge(a: State, b: State) -> State:
    """The counts of both together."""
    return State(a.counts + b.counts)


def compute(state: State) -> Scores:
    """The scores of all that was seen."""
    right = np.diag(state.counts).astype(np.float64)
    asked, seen = state.counts.sum(axis=1), state.counts.sum(axis=0)
    return Scores(
        accuracy=float(right.sum() / max(state.counts.sum(), 1)),
        precision=right / np.maximum(seen, 1),
        recall=right / np.maximum(asked, 1),
        f1=2 * right / np.maximum(asked + seen, 1),
    )
