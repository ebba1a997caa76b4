"""Standard errors: of means, and of other estimates by the jackknife (Efron & Stein, 1981)."""

import numpy as np
from jaxtyping import Float


def jackknife_error(leave_one_out: Float[np.ndarray, " parts"]) -> float:
    """Returns sqrt((n - 1) / n sum_i (t_i - mean(t))^2), the jackknife standard error.

    Args:
        leave_one_out: t, the estimate without part i, for each of n equal parts.
    """
    parts = len(leave_one_out)
    deviations = leave_one_out - leave_one_out.mean()
    return float(np.sqrt((parts - 1) / parts * (deviations @ deviations)))


def standard_error(values: Float[np.ndarray, " examples"]) -> float:
    """Returns the standard error of the mean: std(values, ddof=1) / sqrt(n); 0 if n is 1."""
    count = len(values)
    return float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0


def trimmed_mean(values: Float[np.ndarray, " examples"], share: float) -> tuple[float, float]:
    """Returns the mean without the smallest and the largest values, and its standard error.

    The error is that of Tukey & McLaughlin (1963): the deviation of the values, in which those left
    out are replaced by the nearest of the rest, over sqrt(n) times the share of the rest.

    Args:
        values: two or more.
        share: fraction of the values that is left out at each end, in [0, 1/2):
            int(share * (n - 1)) values.
    """
    count = len(values)
    dropped = int(share * (count - 1))
    ordered = np.sort(values)
    rest = ordered[dropped : count - dropped]
    winsorized = np.clip(ordered, rest[0], rest[-1])
    return float(rest.mean()), standard_error(winsorized) * count / len(rest)
