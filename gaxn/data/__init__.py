"""Data sets, one a file, each with a `Source`.

A source is a frozen dataclass that answers for one split of one data set. Indices are its
only state: the example of an index is always the same, and splits share none.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np

from gaxn.types import Batch, Indices, PyTree


class Source(Protocol):
    """What a data set offers.

    Attributes:
        split: "train" or "test".
        image_shape: (height, width, channels).
        class_names: a name for each label; empty where there are no labels.
        identity: what the images are, whatever the split and how many.
        table: what `look_up` reads, arrays that live on every device; an empty tree where
            examples are drawn from their index alone.
    """

    split: str

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> str: ...

    @property
    def table(self) -> PyTree: ...

    def __len__(self) -> int: ...

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """The examples of `indices`, int [...] in [0, len): traceable by jit."""


def reader(source: Source) -> Callable[[np.ndarray], Batch]:
    """indices -> their examples, on the default device."""
    table = jax.device_put(source.table)
    program = jax.jit(source.look_up)
    return lambda indices: program(table, indices)


def pick(table: Batch, indices: Indices) -> Batch:
    """The `look_up` of a source whose table holds every example."""
    return jax.tree.map(lambda leaf: leaf[indices], table)
