"""The confusion matrix, and what follows from it: accuracy, precision, recall and F1 a class."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gaxn.metrics import Outline, Result

TAKES = ("labels", "modes")
FIGURES = ("conditional_accuracy", "class_precision_worst", "class_recall_worst", "class_f1_worst")
FEWEST = 1


class State(NamedTuple):
    """Counts: row = the label that was asked for, column = the class that was seen."""

    counts: Int[np.ndarray, "classes classes"]


def empty(outline: Outline) -> State:
    """Nothing seen yet."""
    size = max(outline.labels, outline.modes)
    return State(np.zeros((size, size), np.int64))


def update(
    state: State,
    _: Int[np.ndarray, "batch"],
    labels: Int[np.ndarray, "batch"],
    modes: Int[np.ndarray, "batch"],
) -> State:
    """Adds labels and the classes that were seen."""
    counts = state.counts.copy()
    np.add.at(counts, (labels, modes), 1)
    return State(counts)


def merge(a: State, b: State) -> State:
    """The counts of both together."""
    return State(a.counts + b.counts)


def compute(state: State, _: State | None = None) -> Result:
    """Figures in [0, 1]; a class never asked for or never seen scores 0.

    The standard error of the accuracy is that of a share.
    """
    total = max(state.counts.sum(), 1)
    right = np.diag(state.counts).astype(np.float64)
    asked, seen = state.counts.sum(axis=1), state.counts.sum(axis=0)
    accuracy = float(right.sum() / total)
    by_class = {
        "class_precision": right / np.maximum(seen, 1),
        "class_recall": right / np.maximum(asked, 1),
        "class_f1": 2 * right / np.maximum(asked + seen, 1),
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
