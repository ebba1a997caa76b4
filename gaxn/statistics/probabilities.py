"""Probabilities from logits."""

import numpy as np
from jaxtyping import Float


def log_softmax(logits: Float[np.ndarray, "batch classes"]) -> Float[np.ndarray, "batch classes"]:
    """log p(y|x), in float64 whatever the logits are in."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
