"""MS-SSIM between pairs of samples (Wang et al., 2003; for GANs: Odena et al., 2017, section 4.1).

Low is diverse. Pairs are drawn once from each hundred images that follow one another, whatever
their classes. As many of the five scales are used as leave 11 pixels or more, their exponents
divided by their sum.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Outline, Result
from gaxn.statistics import jackknife, rows
from gaxn.types import HostPixels

TAKES = ("images",)
FIGURES = ("ms_ssim",)
FEWEST = 2
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, DEVIATION = 11, 1.5
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
HUNDRED, SEED = 100, 2020


class State(NamedTuple):
    """The pairs that are complete, and the images that wait for their other half.

    Attributes:
        values: MS-SSIM by the number of the pair.
        waiting: images by their place: twice the number of their pair, or one more.
    """

    values: rows.State
    waiting: rows.State


def empty(_: Outline | None = None) -> State:
    """Nothing seen yet."""
    return State(rows.empty(), rows.empty())


def update(state: State, indices: Int[np.ndarray, "batch"], images: HostPixels) -> State:
    """Adds images, all of one size."""
    return _pair_up(State(state.values, rows.update(state.waiting, _places(indices), images)))


def merge(a: State, b: State) -> State:
    """The pairs of both, and those of one half from each."""
    return _pair_up(State(rows.merge(a.values, b.values), rows.merge(a.waiting, b.waiting)))


def compute(state: State, _: State | None = None) -> Result:
    """The mean over the pairs, in [0, 1]; nothing where images are too small or too few."""
    if not state.values.indices:
        return Result({})
    values = rows.table(state.values)
    return Result({"ms_ssim": float(values.mean()), "ms_ssim_error": jackknife.of_mean(values)})


def similarity(a: HostPixels, b: HostPixels) -> Float[np.ndarray, "batch"]:
    """MS-SSIM of pairs of images, in [0, 1], the mean over their channels.

    Gaussian windows of 11 pixels and deviation 1.5 that lie inside the image; contrasts below
    0 count as 0.

    Raises:
        ValueError: an image has fewer than 11 pixels a side.
    """
    count = scales(min(a.shape[1:3]))
    exponents = np.array(EXPONENTS[:count]) / sum(EXPONENTS[:count])
    a, b = (side.astype(np.float64) for side in (a, b))
    found = np.ones((len(a), a.shape[-1]))
    for scale, exponent in enumerate(exponents):
        luminance, contrast = _structure(a, b)
        last = scale == count - 1
        value = (luminance * contrast if last else contrast).mean(axis=(1, 2))
        found *= np.clip(value, 0, None) ** exponent
        a, b = _halve(a), _halve(b)
    return found.mean(axis=1)


def scales(side: int) -> int:
    """How many scales fit an image whose smaller side has so many pixels.

    Raises:
        ValueError: none does.
    """
    fitting = [n for n in range(1, len(EXPONENTS) + 1) if side >> (n - 1) >= WINDOW]
    if not fitting:
        raise ValueError(f"MS-SSIM needs {WINDOW} pixels or more a side, not {side}")
    return fitting[-1]


def _places(indices: np.ndarray) -> np.ndarray:
    rank = np.argsort(np.random.RandomState(SEED).permutation(HUNDRED))
    return indices // HUNDRED * HUNDRED + rank[indices % HUNDRED]


def _pair_up(state: State) -> State:
    if not state.waiting.indices:
        return state
    places, images = np.concatenate(state.waiting.indices), np.concatenate(state.waiting.values)
    if min(images.shape[1:3]) < WINDOW:
        return State(state.values, rows.empty())
    order = np.argsort(places)
    places, images = places[order], images[order]
    pairs = places // 2
    first = np.flatnonzero(pairs[:-1] == pairs[1:])
    single = np.setdiff1d(np.arange(len(places)), [first, first + 1])
    values, waiting = state.values, rows.empty()
    if len(first):
        values = rows.update(values, pairs[first], similarity(images[first], images[first + 1]))
    if len(single):
        waiting = rows.update(waiting, places[single], images[single])
    return State(values, waiting)


def _structure(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast-structure at each window (eq. 1, 4 and 5, C3 = C2 / 2)."""
    mean_a, mean_b = _smooth(a), _smooth(b)
    luminance = (2 * mean_a * mean_b + LUMINANCE) / (mean_a**2 + mean_b**2 + LUMINANCE)
    spread = _smooth(a * a) - mean_a**2 + _smooth(b * b) - mean_b**2
    shared = _smooth(a * b) - mean_a * mean_b
    return luminance, (2 * shared + CONTRAST) / (spread + CONTRAST)


def _smooth(x: np.ndarray) -> np.ndarray:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    height, width = (side - WINDOW + 1 for side in x.shape[1:3])
    x = sum(weight * x[:, k : k + height] for k, weight in enumerate(weights))
    return sum(weight * x[:, :, k : k + width] for k, weight in enumerate(weights))


def _halve(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, -1).mean(axis=(2, 4))
