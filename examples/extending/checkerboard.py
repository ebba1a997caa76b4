"""A data set: a checkerboard in the plane, whose dark squares are known modes."""

import dataclasses
import functools

import numpy as np

from gaxn import data
from gaxn.types import Batch

CENTERS = tuple((x - 1.5, y - 1.5) for x in range(4) for y in range(4) if (x + y) % 2)


@dataclasses.dataclass(frozen=True)
class Checkerboard(data.Source):
    """Points, float32 [2], uniform on 8 unit squares; a square's inscribed disc is its mode."""

    examples: int = 10_000
    image_shape, identity = (2,), "checkerboard"
    modes = property(lambda self: {"name": "mixture", "centers": CENTERS, "deviation": 1 / 6})

    def __len__(self) -> int:
        return self.examples

    @functools.cached_property
    def table(self) -> Batch:
        random = np.random.default_rng(self.splits.index(self.split))
        centers = np.array(CENTERS)[np.arange(len(self)) % len(CENTERS)]
        return Batch(random.uniform(centers - 0.5, centers + 0.5).astype(np.float32), None)
