"""Metrics, one a file: states over what is observed of a set of images, which can be merged.

Each file offers what `Metric` has, and its `State`. A
stream in batches of any size, and merged in any order, gives the same result. Figures whose
name ends in `_error` are the standard error of the figure before.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from gaxn.types import HostLabels, HostPixels


class Observed(NamedTuple):
    """What is known of a batch of images; None is unknown.

    Attributes:
        images: the pixels.
        features: by the extractor, float32 [batch, features].
        logits: by the extractor, float32 [batch, classes].
        modes: which of the known modes each image is, -1 for none.
        labels: what was asked for, or what a real image is.
    """

    images: HostPixels
    features: Float[np.ndarray, "batch features"]
    logits: Float[np.ndarray, "batch classes"] | None = None
    modes: Int[np.ndarray, "batch"] | None = None
    labels: HostLabels | None = None


class Outline(NamedTuple):
    """What there will be of a set.

    Attributes:
        count: images.
        features: width of the features.
        classes: number of logits.
        modes: number of known modes.
        labels: number of labels; 0 where there are none. So for the others.
        pictures: 1, or 0 where the data are points.
    """

    count: int
    features: int
    classes: int = 0
    modes: int = 0
    labels: int = 0
    pictures: int = 1


class Result(NamedTuple):
    """What a metric finds.

    Attributes:
        figures: scalars by name.
        tables: what is no scalar, ready for JSON.
    """

    figures: Mapping[str, float]
    tables: Mapping[str, Any] = {}


class Metric(Protocol):
    """What a file of this folder offers.

    Attributes:
        TAKES: the fields of `Observed` that `update` takes, in this order.
        FIGURES: the names of its figures, but for their errors.
        FEWEST: images without which a set has no such figure.
    """

    TAKES: tuple[str, ...]
    FIGURES: tuple[str, ...]
    FEWEST: int

    def empty(self, outline: Outline) -> Any:
        """Nothing seen yet of a set.

        Raises:
            ValueError: it would take too much memory.
        """

    def update(self, state: Any, indices: Int[np.ndarray, "batch"], *observed: np.ndarray) -> Any:
        """Adds a batch of any size, of examples in [0, count) that were not there."""

    def merge(self, a: Any, b: Any) -> Any:
        """What was seen by both, of one set."""

    def compute(self, state: Any, reference: Any) -> Result:
        """The result; `reference` is the state of the real images, for those that compare."""
