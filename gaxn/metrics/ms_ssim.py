"""MS-SSIM between pairs of samples (Wang et al., 2003; for GANs: Odena et al., 2017, section 4.1).

A low value means diverse samples. Each block of 100 consecutive images, and the rest of them, is
paired at random, by one fixed permutation, regardless of class. Of the five scales only those are
used at which the image has 11 pixels or more per side; their exponents are divided by their sum.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gaxn.metrics import Result, SetSpec
from gaxn.metrics.statistics import rows
from gaxn.metrics.statistics.standard_errors import standard_error
from gaxn.types import HostPixels

INPUTS = ("images",)
FIGURES = ("ms_ssim",)
MIN_COUNT = 2
RELIABLE_COUNT = 200
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, DEVIATION = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
PAIRING_BLOCK, SEED = 100, 2020


class State(NamedTuple):
    """The values of complete pairs, and the images whose partner is not yet added.

    Attributes:
        count: size of the full set.
        values: MS-SSIM by the number of the pair.
        waiting: images by their position: 2 n or 2 n + 1 for the images of pair n.
    """

    count: np.ndarray
    values: rows.State
    waiting: rows.State


def empty(spec: SetSpec) -> State:
    """Returns a state without pairs.

    Raises:
        ValueError: the images are smaller than a window.
    """
    if spec.side:
        scales(spec.side)
    return State(np.array(spec.count), rows.empty(), rows.empty())


def update(state: State, indices: Int[np.ndarray, " batch"], images: HostPixels) -> State:
    """Adds images, all of one size."""
    positions = _positions(indices, int(state.count))
    return _pair_up(state._replace(waiting=rows.update(state.waiting, positions, images)))


def merge(a: State, b: State) -> State:
    """Returns the pairs of both, and those with one image from each."""
    values, waiting = rows.merge(a.values, b.values), rows.merge(a.waiting, b.waiting)
    return _pair_up(State(a.count, values, waiting))


def compute(state: State, _: State | None = None) -> Result:
    """Returns the mean over the pairs, in [0, 1]."""
    values = rows.table(state.values)
    return Result({"ms_ssim": float(values.mean()), "ms_ssim_error": standard_error(values)})


def similarity(a: HostPixels, b: HostPixels) -> Float[np.ndarray, " batch"]:
    """Returns the MS-SSIM of pairs of images, in [0, 1], averaged over their channels.

    Windows are Gaussian, 11 pixels wide with a standard deviation of 1.5 pixels, and lie inside the
    image. Negative contrasts count as 0.

    Raises:
        ValueError: an image has fewer than 11 pixels per side.
    """
    count = scales(min(a.shape[1:3]))
    exponents = np.array(EXPONENTS[:count]) / sum(EXPONENTS[:count])
    a, b = a.astype(np.float64), b.astype(np.float64)
    product = np.ones((len(a), a.shape[-1]))
    for scale, exponent in enumerate(exponents):
        luminance, contrast = _structure(a, b)
        value = luminance * contrast if scale == count - 1 else contrast
        product *= np.clip(value.mean(axis=(1, 2)), 0, None) ** exponent
        a, b = _halve(a), _halve(b)
    return product.mean(axis=1)


def scales(side: int) -> int:
    """Returns the number of scales for an image whose smaller side has `side` pixels.

    Raises:
        ValueError: the image is smaller than a window.
    """
    if side < WINDOW:
        raise ValueError(f"needs images of {WINDOW} pixels or more per side, got {side}")
    return sum(side >> halvings >= WINDOW for halvings in range(len(EXPONENTS)))


def _positions(indices: np.ndarray, count: int) -> np.ndarray:
    first = indices // PAIRING_BLOCK * PAIRING_BLOCK
    positions = np.empty_like(indices)
    for size in (PAIRING_BLOCK, count % PAIRING_BLOCK):
        rank = np.argsort(np.random.RandomState(SEED).permutation(size))
        chosen = np.minimum(count - first, PAIRING_BLOCK) == size
        positions[chosen] = first[chosen] + rank[indices[chosen] % PAIRING_BLOCK]
    return positions


def _pair_up(state: State) -> State:
    if not state.waiting.indices:
        return state
    positions, images = np.concatenate(state.waiting.indices), np.concatenate(state.waiting.values)
    order = np.argsort(positions)
    positions, images = positions[order], images[order]
    pairs = positions // 2
    first = np.flatnonzero(pairs[:-1] == pairs[1:])
    single = np.setdiff1d(np.arange(len(positions)), [first, first + 1])
    values, waiting = state.values, rows.empty()
    if len(first):
        values = rows.update(values, pairs[first], similarity(images[first], images[first + 1]))
    if len(single):
        waiting = rows.update(waiting, positions[single], images[single])
    return State(state.count, values, waiting)


def _structure(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns luminance and contrast-structure of each window (eq. 1, 4 and 5, C3 = C2 / 2)."""
    mean_a, mean_b = _smooth(a), _smooth(b)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    variances = _smooth(a * a) - mean_a**2 + _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    return luminance, (2 * covariance + C2) / (variances + C2)


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
