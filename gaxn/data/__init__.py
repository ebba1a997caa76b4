"""Data sets, one a file, each with a `Source`.

A source is a frozen dataclass that answers for one split of one data set. Indices are its
only state: the example of an index is always the same, and splits share none.
"""

from typing import Protocol

from gaxn.types import Batch, Indices


class Source(Protocol):
    """What a data set offers.

    Attributes:
        split: "train" or "test".
        image_shape: (height, width, channels).
        class_names: a name for each label; empty where there are no labels.
        identity: what the images are, whatever the split and how many.
    """

    split: str

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> Batch:
        """The examples of `indices`, int [...] in [0, len): traceable by jit."""
