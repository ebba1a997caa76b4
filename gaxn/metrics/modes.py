"""How many of the known modes are reached, and reverse KL (Metz et al., 2017; Lin et al., 2018)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from gaxn.metrics import Outline, Result

TAKES = ("modes",)
FIGURES = ("modes", "modes_reverse_kl", "modes_quality")
FEWEST = 1
LISTED = 100
"""The most modes whose shares are a table."""


class State(NamedTuple):
    """Counts.

    Attributes:
        counts: samples by mode.
        outside: samples of no mode.
    """

    counts: Int[np.ndarray, "modes"]
    outside: np.ndarray


def empty(outline: Outline) -> State:
    """Nothing seen yet."""
    return State(np.zeros(outline.modes, np.int64), np.array(0))


def update(state: State, _: Int[np.ndarray, "batch"], modes: Int[np.ndarray, "batch"]) -> State:
    """Adds the mode of each sample, -1 for none."""
    inside = modes[modes >= 0]
    counts = state.counts + np.bincount(inside, minlength=len(state.counts))
    return State(counts, state.outside + len(modes) - len(inside))


def merge(a: State, b: State) -> State:
    """The counts of both."""
    return State(a.counts + b.counts, a.outside + b.outside)


def compute(state: State, _: State | None = None) -> Result:
    """Modes with a sample or more; KL(samples || uniform over the modes), in nats; the share
    of the samples that are of some mode ("high quality"). The KL is over those alone, and there is
    none where there are none.
    """
    inside = state.counts.sum()
    share = state.counts / max(inside, 1)
    there = share[share > 0]
    figures = {
        "modes": float(len(there)),
        "modes_quality": float(inside / max(inside + state.outside, 1)),
    }
    if inside:
        figures["modes_reverse_kl"] = float((there * np.log(there * len(share))).sum())
    small = len(share) <= LISTED
    return Result(figures, {"mode_shares": share.tolist()} if small else {})
