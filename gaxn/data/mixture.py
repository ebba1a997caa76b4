"""Points of a mixture of equal, round Gaussians: data whose modes are known."""

import dataclasses
import functools
from typing import Any

import numpy as np

from gaxn.data import pick
from gaxn.types import Batch, Indices, require

SPLITS = ("train", "test")
TEST_EXAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Source:
    """Points, float32 [size], each mode equally often.

    Attributes:
        split: "train" or "test", drawn apart.
        centres: of the modes, equally long.
        deviation: of each coordinate around its centre, above 0.
        examples: size of the training set; the test set has 10,000.
    """

    split: str = "train"
    centres: tuple[tuple[float, ...], ...] = ()
    deviation: float = 0.01
    examples: int = 100_000

    def __post_init__(self):
        require("split", self.split, self.split in SPLITS, " or ".join(SPLITS))
        lengths = {len(centre) for centre in self.centres}
        holds = len(lengths) == 1 and 0 not in lengths
        require("centres", self.centres, holds, "one or more tuples of equally many numbers")
        require("deviation", self.deviation, self.deviation > 0, "above 0")
        require("examples", self.examples, self.examples >= 1, "1 or more")

    @property
    def image_shape(self) -> tuple[int, ...]:
        return (len(self.centres[0]),)

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def identity(self) -> str:
        return f"mixture centres={self.centres} deviation={self.deviation}"

    @property
    def modes(self) -> dict[str, Any]:
        """The centre that a point is near."""
        return {"name": "mixture", "centres": self.centres, "deviation": self.deviation}

    @functools.cached_property
    def table(self) -> Batch:
        """All points of the split."""
        random = np.random.default_rng([SPLITS.index(self.split), 2020])
        centres = np.array(self.centres)[np.arange(len(self)) % len(self.centres)]
        points = random.normal(centres, self.deviation)
        return Batch(points.astype(np.float32), None)

    def __len__(self) -> int:
        return self.examples if self.split == "train" else TEST_EXAMPLES

    def look_up(self, table: Batch, indices: Indices) -> Batch:
        """The points of `indices`."""
        return pick(table, indices)
