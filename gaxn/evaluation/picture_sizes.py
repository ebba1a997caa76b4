"""Ways in which a picture of any size goes through networks that were trained at one size."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gaxn.data.image_preparation import FILTER
from gaxn.types import HostPixels

MIN_SIDE = 8
"""The shortest side that the networks accept."""

TILES_PER_BATCH = 8
"""Tiles that are translated in one call."""

HostImage = UInt8[np.ndarray, "height width channels"]
Translate = Callable[[HostPixels], HostPixels]


class Fit(NamedTuple):
    """A way to translate a picture of any size; the value of --fit.

    Attributes:
        prepare: (picture, size) -> the picture that is translated.
        apply: (translate, picture, size, multiple) -> its translation, of the same size. Sides of
            the images that `translate` gets are multiples of `multiple`.
    """

    prepare: Callable[[HostImage, int], HostImage]
    apply: Callable[[Translate, HostImage, int, int], HostImage]


def translate_whole(translate: Translate, image: HostImage, size: int, multiple: int) -> HostImage:
    """Translates a picture in one call, its sides padded to multiples by reflection."""
    height, width = image.shape[:2]
    sides = (max(side + -side % multiple, MIN_SIDE) for side in (height, width))
    return translate(_pad_by_reflection(image, *sides)[None])[0, :height, :width]


def translate_tiles(translate: Translate, image: HostImage, size: int, multiple: int) -> HostImage:
    """Translates a picture in square tiles of side `size` that overlap by half, and blends them.

    The weight of a tile falls linearly from its center to its edges. Instance norm takes its
    statistics from one tile.
    """
    height, width = image.shape[:2]
    padded = _pad_by_reflection(image, max(height, size), max(width, size))
    corners = [
        (top, left)
        for top in _tile_starts(padded.shape[0], size)
        for left in _tile_starts(padded.shape[1], size)
    ]
    tiles = np.stack([padded[top : top + size, left : left + size] for top, left in corners])
    batches = np.split(tiles, range(TILES_PER_BATCH, len(tiles), TILES_PER_BATCH))
    translated = np.concatenate([translate(batch) for batch in batches])
    weights = _tile_weights(size)
    weighted_sum, weight_sum = np.zeros(padded.shape), np.zeros((*padded.shape[:2], 1))
    for (top, left), tile in zip(corners, translated, strict=True):
        weighted_sum[top : top + size, left : left + size] += weights * tile
        weight_sum[top : top + size, left : left + size] += weights
    return np.round(weighted_sum / weight_sum).astype(np.uint8)[:height, :width]


def resize_shorter_side(image: HostImage, size: int) -> HostImage:
    """Resizes a picture so that its shorter side is `size`, by PIL's antialiased bicubic filter."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    sides = tuple(max(1, round(scale * side)) for side in (width, height))
    pillow_image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(pillow_image.resize(sides, FILTER)).reshape(*sides[::-1], image.shape[-1])


FITS = {
    "whole": Fit(lambda image, size: image, translate_whole),
    "tile": Fit(lambda image, size: image, translate_tiles),
    "resize": Fit(resize_shorter_side, translate_whole),
}
"""By the value of --fit."""


def _pad_by_reflection(image: HostImage, height: int, width: int) -> HostImage:
    """Pads a picture at the bottom and on the right to (height, width)."""
    edges = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    return np.pad(image, edges, mode="reflect")


def _tile_starts(length: int, size: int) -> list[int]:
    """Returns the starts of tiles along one side: evenly spaced, by half a tile or less."""
    count = 1 + -(-2 * (length - size) // size)
    return np.round(np.linspace(0, length - size, count)).astype(int).tolist()


def _tile_weights(size: int) -> Float[np.ndarray, "size size 1"]:
    line = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return (line[:, None] * line / (size / 2) ** 2)[..., None]
