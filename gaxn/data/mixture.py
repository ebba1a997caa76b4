"""Points of a mixture of equal, isotropic Gaussians, whose modes are known."""

import dataclasses
import functools
from typing import Any

import numpy as np

from gaxn import data
from gaxn.types import Batch, check

TEST_EXAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Points, float32 [size], equally many per mode; the splits are drawn independently.

    Attributes:
        centers: coordinates of the center of each mode, must be set; tuples of one length.
        deviation: standard deviation of each coordinate around its center, above 0.
        examples: size of the training set; the test set has 10,000.
    """

    centers: tuple[tuple[float, ...], ...] = ()
    deviation: float = 0.01
    examples: int = 100_000

    def __post_init__(self):
        super().__post_init__()
        lengths = {len(center) for center in self.centers}
        one_length = len(lengths) == 1 and 0 not in lengths
        check("centers", self.centers, one_length, "one or more tuples of equally many numbers")
        check("deviation", self.deviation, self.deviation > 0, "above 0")
        check("examples", self.examples, self.examples >= 1, "1 or more")

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (len(self.centers[0]),)

    @property
    def identity(self) -> str:
        return f"mixture centers={self.centers} deviation={self.deviation}"

    @property
    def modes(self) -> dict[str, Any]:
        """Assigns each point to its nearest center."""
        return {"name": "mixture", "centers": self.centers, "deviation": self.deviation}

    @functools.cached_property
    def table(self) -> Batch:
        """All points of the split."""
        random = np.random.default_rng([self.splits.index(self.split), 2020])
        centers = np.array(self.centers)[np.arange(len(self)) % len(self.centers)]
        return Batch(random.normal(centers, self.deviation).astype(np.float32), None)

    def __len__(self) -> int:
        return self.examples if self.split == "train" else TEST_EXAMPLES
