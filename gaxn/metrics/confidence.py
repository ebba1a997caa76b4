"""How sure the extractor's classifier is of what it sees. A weak figure: noise can be sure too."""

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result
from gaxn.statistics import jackknife, rows
from gaxn.statistics.probabilities import log_softmax
from gaxn.statistics.rows import State, empty, merge

__all__ = ["State", "empty", "merge"]

TAKES = ("logits",)
FIGURES = ("confidence",)
FEWEST = 1


def update(
    state: State, indices: Int[np.ndarray, "batch"], logits: Float[np.ndarray, "batch classes"]
) -> State:
    """Adds the largest probability of each example."""
    return rows.update(state, indices, np.exp(log_softmax(logits).max(axis=1)))


def compute(state: State, _: State | None = None) -> Result:
    """The mean of the largest probabilities, in [1 / classes, 1]."""
    values = rows.table(state)
    figures = {"confidence": float(values.mean()), "confidence_error": jackknife.of_mean(values)}
    return Result(figures)
