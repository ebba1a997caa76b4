"""Metrics of sets of images, one per file; each file follows the `Metric` protocol.

A metric collects a state from batches and computes its figures from that state. The result depends
neither on the size of the batches nor on the order in which they are added and states are merged.
A figure whose name ends in `_error` is the standard error of the figure named before the ending.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from gaxn.types import HostLabels, HostPixels


class Observations(NamedTuple):
    """A batch of images and what is known about them; unknown fields are None.

    Attributes:
        images: uint8 pixels, or float32 points.
        features, logits: output of the feature extractor.
        modes: the known mode that each image belongs to, -1 if it belongs to none.
        labels: the class that each sample was generated for, or that a real image shows.
    """

    images: HostPixels
    features: Float[np.ndarray, "batch features"]
    logits: Float[np.ndarray, "batch classes"] | None = None
    modes: Int[np.ndarray, " batch"] | None = None
    labels: HostLabels | None = None


class SetSpec(NamedTuple):
    """Numbers of images, features per image, logits, known modes and labels; 0 if absent.

    `pictures` is 1 for images and 0 for points; `unit_scale` is 1 if values of features are of the
    order of 1, and 0 if their scale is arbitrary; `side` is the smaller side of the images in
    pixels.
    """

    count: int
    features: int
    classes: int = 0
    modes: int = 0
    labels: int = 0
    pictures: int = 1
    unit_scale: int = 1
    side: int = 0


class Result(NamedTuple):
    """The figures of a metric, and its tables: what is not a scalar, ready for JSON."""

    figures: Mapping[str, float]
    tables: Mapping[str, Any] = {}


class Metric(Protocol):
    """The contract of a file in this folder: its constants and module-level functions.

    Its state is a named tuple of arrays, tuples of arrays or further named tuples, whose field
    names become names in files of statistics. No function
    changes its arguments. Metrics that import one `update` and have equal `INPUTS` share a state.

    Attributes:
        INPUTS: the fields of `Observations` that `update` takes, in this order.
        FIGURES: the names of the figures, without those of their errors.
        MIN_COUNT: the smallest number of images for which the figures are defined.

    A file may set NEEDS_UNIT_SCALE, if its figures mean nothing for features of arbitrary scale,
    and RELIABLE_COUNT, the number of images below which they mean little.
    """

    INPUTS: tuple[str, ...]
    FIGURES: tuple[str, ...]
    MIN_COUNT: int

    def empty(self, spec: SetSpec) -> Any:
        """Returns the state of a set before its first batch.

        Raises:
            ValueError: the state would take too much memory.
        """

    def update(self, state: Any, indices: Int[np.ndarray, " batch"], *inputs: np.ndarray) -> Any:
        """Returns the state with a batch added.

        Args:
            state: without these images.
            indices: of the images within their set, in [0, count).
            *inputs: the fields that `INPUTS` names, one row per image.
        """

    def merge(self, a: Any, b: Any) -> Any:
        """Returns the state of two disjoint parts of one set together."""

    def compute(self, state: Any, reference: Any) -> Result:
        """Returns the figures and tables of a set.

        Args:
            state: of the set.
            reference: state of the real images, which some metrics compare with.

        Raises:
            ValueError: a set has too few images.
        """
