"""Confidence of the feature extractor's classifier: the mean of its largest probability.

A weak measure of quality: a classifier can be confident about noise, too.
"""

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result
from gaxn.metrics.statistics import rows
from gaxn.metrics.statistics.probabilities import log_softmax
from gaxn.metrics.statistics.rows import State, empty, merge
from gaxn.metrics.statistics.standard_errors import standard_error

__all__ = ["State", "empty", "merge"]

INPUTS = ("logits",)
FIGURES = ("confidence",)
MIN_COUNT = 1
RELIABLE_COUNT = 100


def update(
    state: State, indices: Int[np.ndarray, " batch"], logits: Float[np.ndarray, "batch classes"]
) -> State:
    """Adds the largest probability of each image, computed in float64."""
    log_probabilities = log_softmax(logits)
    return rows.update(state, indices, np.exp(log_probabilities.max(axis=1)))


def compute(state: State, _: State | None = None) -> Result:
    """Returns the mean of the largest probabilities, in [1 / classes, 1]."""
    values = rows.table(state)
    return Result({"confidence": float(values.mean()), "confidence_error": standard_error(values)})
