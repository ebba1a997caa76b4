"""Ways for a picture of any size through networks that take some sizes: one `Fit` each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gaxn.framing import FILTER
from gaxn.types import HostPixels

LEAST = 8
"""The shortest side that networks take."""

PATCHES = 8
"""Patches that are translated at a time."""

HostImage = UInt8[np.ndarray, "height width channels"]
Translate = Callable[[HostPixels], HostPixels]


class Fit(NamedTuple):
    """One way.

    Attributes:
        prepare: (picture, size) -> the picture that is translated.
        apply: (translate, picture, size, multiple) -> its translation, of the same size;
            `translate` takes sides that are multiples of it.
    """

    prepare: Callable[[HostImage, int], HostImage]
    apply: Callable[[Translate, HostImage, int, int], HostImage]


def whole(translate: Translate, image: HostImage, size: int, multiple: int) -> HostImage:
    """At once, the sides filled up to multiples by reflection, and cut again."""
    height, width = image.shape[:2]
    padded = _filled(image, *(max(side + -side % multiple, LEAST) for side in (height, width)))
    return translate(padded[None])[0, :height, :width]


def tiled(translate: Translate, image: HostImage, size: int, multiple: int) -> HostImage:
    """In squares of `size` that lie half over one another, blended.

    A square weighs most at its middle and next to nothing at its edge. Instance norm has the
    statistics of a square.
    """
    height, width = image.shape[:2]
    padded = _filled(image, max(height, size), max(width, size))
    corners = [
        (top, left)
        for top in _starts(padded.shape[0], size)
        for left in _starts(padded.shape[1], size)
    ]
    squares = np.stack([padded[top : top + size, left : left + size] for top, left in corners])
    made = np.concatenate(
        [translate(squares[first : first + PATCHES]) for first in range(0, len(squares), PATCHES)]
    )
    weights = _weights(size)
    total, over = np.zeros(padded.shape), np.zeros((*padded.shape[:2], 1))
    for (top, left), square in zip(corners, made, strict=True):
        total[top : top + size, left : left + size] += weights * square
        over[top : top + size, left : left + size] += weights
    return np.round(total / over).astype(np.uint8)[:height, :width]


def resized(image: HostImage, size: int) -> HostImage:
    """With a shorter side of `size`, by PIL's antialiased bicubic filter."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    sides = tuple(max(1, round(scale * side)) for side in (width, height))
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(shown.resize(sides, FILTER)).reshape(*sides[::-1], image.shape[-1])


def _as_it_is(image: HostImage, size: int) -> HostImage:
    return image


FITS = {
    "whole": Fit(_as_it_is, whole),
    "tile": Fit(_as_it_is, tiled),
    "resize": Fit(resized, whole),
}


def _filled(image: HostImage, height: int, width: int) -> HostImage:
    """Going on as in a mirror beneath and to the right."""
    edges = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    return np.pad(image, edges, mode="reflect")


def _starts(length: int, size: int) -> list[int]:
    """Where squares begin: evenly, half a square apart or less, the last at the end."""
    count = 1 + -(-2 * (length - size) // size)
    return np.round(np.linspace(0, length - size, count)).astype(int).tolist()


def _weights(size: int) -> Float[np.ndarray, "size size 1"]:
    line = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return (line[:, None] * line / (size / 2) ** 2)[..., None]
