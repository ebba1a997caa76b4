"""Confusion matrix of labels and predicted classes, with accuracy, precision, recall and F1."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gaxn.metrics import Result, SetSpec

INPUTS = ("labels", "modes")
FIGURES = ("conditional_accuracy", "class_precision_worst", "class_recall_worst", "class_f1_worst")
MIN_COUNT = 1
RELIABLE_COUNT = 100


class State(NamedTuple):
    """Counts of images; rows are labels, columns are predicted classes."""

    counts: Int[np.ndarray, "classes classes"]


def empty(spec: SetSpec) -> State:
    """Returns a matrix of zeros."""
    size = max(spec.labels, spec.modes)
    return State(np.zeros((size, size), np.int64))


def update(
    state: State,
    _: Int[np.ndarray, " batch"],
    labels: Int[np.ndarray, " batch"],
    modes: Int[np.ndarray, " batch"],
) -> State:
    """Adds images by their labels and predicted classes."""
    counts = state.counts.copy()
    np.add.at(counts, (labels, modes), 1)
    return State(counts)


def merge(a: State, b: State) -> State:
    """Returns the sum of the counts."""
    return State(a.counts + b.counts)


def compute(state: State, _: State | None = None) -> Result:
    """Returns scores in [0, 1]; a class that is never a label or never predicted scores 0.

    The standard error of the accuracy p is that of a binomial proportion, sqrt(p (1 - p) / n).
    """
    total = max(state.counts.sum(), 1)
    correct = np.diag(state.counts).astype(np.float64)
    by_label, by_prediction = state.counts.sum(axis=1), state.counts.sum(axis=0)
    accuracy = float(correct.sum() / total)
    by_class = {
        "class_precision": correct / np.maximum(by_prediction, 1),
        "class_recall": correct / np.maximum(by_label, 1),
        "class_f1": 2 * correct / np.maximum(by_label + by_prediction, 1),
    }
    return Result(
        {
            "conditional_accuracy": accuracy,
            "conditional_accuracy_error": float(np.sqrt(accuracy * (1 - accuracy) / total)),
            **{f"{name}_worst": float(values.min()) for name, values in by_class.items()},
        },
        {
            **{name: values.tolist() for name, values in by_class.items()},
            "confusion": state.counts.tolist(),
        },
    )
