"""Augmentations of gaxn/objectives/augmentations.py in PyTorch.

Each draws one row of numbers per image and, from these, changes the images [batch, channels,
height, width].
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Augmentation(NamedTuple):
    """An augmentation of square images.

    Attributes:
        count: random numbers of an image.
        bounds: the images' side -> (low, high) of these; high is left out.
        integers: whether they are integers.
        apply: (images, numbers [batch, count]) -> images.
    """

    count: int
    bounds: Callable[[int], tuple[int, int]]
    integers: bool
    apply: Callable[[Tensor, Tensor], Tensor]

    def draw(self, batch: int, side: int, device: str) -> Tensor:
        """Draws the numbers of images of a side."""
        low, high = self.bounds(side)
        if self.integers:
            return torch.randint(low, high, (batch, self.count), device=device)
        return torch.rand(batch, self.count, device=device).mul_(high - low).add_(low)


def translation(ratio: float = 0.125) -> Augmentation:
    """Shifts each image by whole pixels, repeating its edge; the numbers are (down, right)."""

    def bounds(side: int) -> tuple[int, int]:
        reach = int(ratio * side)
        return -reach, reach + 1

    def apply(images: Tensor, shifts: Tensor) -> Tensor:
        batch, _, side, _ = images.shape
        places = torch.arange(side, device=images.device) - shifts[:, :, None]
        rows, columns = places.clamp(0, side - 1).unbind(1)
        examples = torch.arange(batch, device=images.device)[:, None, None]
        pixels = images.permute(0, 2, 3, 1)
        return pixels[examples, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)

    return Augmentation(2, bounds, True, apply)


def color(brightness: float = 1.0, saturation: float = 1.0, contrast: float = 0.5) -> Augmentation:
    """Changes brightness, saturation and contrast, by a number each."""

    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        shade, chroma, stretch = numbers[:, :, None, None, None].unbind(1)
        images = images + brightness / 2 * shade
        gray = images.mean(1, keepdim=True)
        images = gray + (1 + saturation * chroma) * (images - gray)
        mean = images.mean((1, 2, 3), keepdim=True)
        return mean + (1 + contrast * stretch) * (images - mean)

    return Augmentation(3, lambda side: (-1, 1), False, apply)


def cutout(ratio: float = 0.5) -> Augmentation:
    """Sets a random rectangle to 0, cut at the border; the numbers are its center."""

    def length_of(side: int) -> int:
        return int(ratio * side + 0.5)

    def bounds(side: int) -> tuple[int, int]:
        # The center of an even rectangle lies between pixels: one more place.
        return 0, side + 1 - length_of(side) % 2

    def apply(images: Tensor, centers: Tensor) -> Tensor:
        side = images.shape[-1]
        length = length_of(side)
        first = (centers - length // 2)[:, :, None]
        places = torch.arange(side, device=images.device)
        # [batch, 2, side]: whether a row is outside, and whether a column is.
        outside = (places < first) | (places >= first + length)
        visible = outside[:, 0, :, None] | outside[:, 1, None]
        return images * visible[:, None]

    return Augmentation(2, bounds, True, apply)


AUGMENTATIONS = {make.__name__: make for make in (translation, color, cutout)}
