"""Number of known modes with samples, and reverse KL (Metz et al., 2017; Lin et al., 2018)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gaxn.metrics import Result, SetSpec

INPUTS = ("modes",)
FIGURES = ("modes", "modes_reverse_kl", "modes_quality")
MIN_COUNT = 1
RELIABLE_COUNT = 1_000
MAX_TABLE = 100
"""The largest number of modes whose shares are listed in a table."""


class State(NamedTuple):
    """Counts of the samples of each mode, and of those outside: of no mode."""

    counts: Int[np.ndarray, " modes"]
    outside: np.ndarray


def empty(spec: SetSpec) -> State:
    """Returns counts of 0."""
    return State(np.zeros(spec.modes, np.int64), np.array(0))


def update(state: State, _: Int[np.ndarray, " batch"], modes: Int[np.ndarray, " batch"]) -> State:
    """Adds samples by their modes; -1 means no mode."""
    inside = modes[modes >= 0]
    counts = state.counts + np.bincount(inside, minlength=len(state.counts))
    return State(counts, state.outside + len(modes) - len(inside))


def merge(a: State, b: State) -> State:
    """Returns the sums of the counts."""
    return State(a.counts + b.counts, a.outside + b.outside)


def compute(state: State, _: State | None = None) -> Result:
    """Returns the coverage of the modes.

    `modes` is the number of modes with a sample or more. `modes_quality` is the share of the
    samples that belong to a mode. `modes_reverse_kl` is KL(samples || uniform over the modes), in
    nats, over these samples alone; it is left out if they are none.
    """
    inside = state.counts.sum()
    shares = state.counts / max(inside, 1)
    positive = shares[shares > 0]
    figures = {
        "modes": float(len(positive)),
        "modes_quality": float(inside / max(inside + state.outside, 1)),
    }
    if inside:
        figures["modes_reverse_kl"] = float((positive * np.log(positive * len(shares))).sum())
    return Result(figures, {"mode_shares": shares.tolist()} if len(shares) <= MAX_TABLE else {})
