"""Standard errors of a mean, and of other estimates by the jackknife (Efron & Stein, 1981)."""

import numpy as np
from jaxtyping import Float


def jackknife_error(leave_one_out: Float[np.ndarray, "parts"]) -> float:
    """Returns sqrt((n - 1) / n sum_i (t_i - mean(t))^2), the jackknife standard error.

    Args:
        leave_one_out: t, the estimate without part i, for each of n equal parts.
    """
    parts = len(leave_one_out)
    deviations = leave_one_out - leave_one_out.mean()
    return float(np.sqrt((parts - 1) / parts * (deviations @ deviations)))


def standard_error(values: Float[np.ndarray, "examples"]) -> float:
    """Returns the standard error of the mean: std(values, ddof=1) / sqrt(n); 0 if n is 1."""
    count = len(values)
    return float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
