"""Standard errors by leaving out: one example, or one group, at a time (Efron & Stein, 1981)."""

import numpy as np
from jaxtyping import Float


def standard_error(left_out: Float[np.ndarray, "parts"]) -> float:
    """sqrt((n - 1) / n sum (t_i - mean t)^2).

    Args:
        left_out: the estimate without part i, for each of n equal parts.
    """
    parts = len(left_out)
    deviations = left_out - left_out.mean()
    return float(np.sqrt((parts - 1) / parts * (deviations @ deviations)))


def of_mean(values: Float[np.ndarray, "examples"]) -> float:
    """That of the mean of independent values; 0 where there is but one."""
    count = len(values)
    return float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
