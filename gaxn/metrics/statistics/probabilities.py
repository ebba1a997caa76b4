"""Probabilities of classes."""

import numpy as np
from jaxtyping import Float


def log_softmax(
    logits: Float[np.ndarray, "batch classes"],
) -> Float[np.ndarray, "batch classes"]:
    """Returns the logarithms of the classes' probabilities, computed in float64."""
    # It takes as long to import as JAX, and training does not need it.
    import scipy.special

    return scipy.special.log_softmax(logits.astype(np.float64), axis=1)
