"""Data sets, one a file, each with a `Source`.

A source is a frozen dataclass that answers for one split of one data set. Indices are its
only state: the example of an index is always the same, and splits share none.
"""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from gaxn.types import Batch, Indices, InputError, PyTree, require

CHUNK = 256
"""Examples that a thread reads at a time."""


class Source(Protocol):
    """What a data set offers.

    Attributes:
        split: "train" or "test".
        image_shape: (height, width, channels), uint8; (features,), float32, of points; or
            (2, height, width, channels) of two domains.
        class_names: a name for each label; empty where there are no labels.
        identity: what the images are, whatever the split and how many.
        table: what `look_up` reads, arrays that live on every device; an empty tree where
            examples are drawn from their index alone; None where there are too many of
            them to be kept, and the source is a `Stream`.
    """

    split: str

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> str: ...

    @property
    def table(self) -> PyTree: ...

    def __len__(self) -> int: ...

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """The examples of `indices`, int [...] in [0, len): traceable by jit."""


class Stream(Source, Protocol):
    """A source that reads its examples from files, and can be sent to other processes.

    Attributes:
        resident_bytes: what all images may take together, decoded, to live on every device.
        workers: processes that read ahead; 0 for threads of this one.
    """

    resident_bytes: int
    workers: int

    def read(self, indices: np.ndarray) -> Batch:
        """The examples of `indices`, int [n] in [0, len), as NumPy arrays.

        Raises:
            InputError: one of them cannot be read.
        """


@runtime_checkable
class Modal(Protocol):
    """A source whose modes are known.

    Attributes:
        modes: what tells them: the "name" of a file in gaxn/extractors, and what its `load` takes.
    """

    @property
    def modes(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Counted(Protocol):
    """A source that knows its classes without reading a picture.

    Attributes:
        counts: examples of the split by class; by "images" where there are no classes.
    """

    @property
    def counts(self) -> Mapping[str, int]: ...


@runtime_checkable
class Unpaired(Protocol):
    """A source whose examples are each of two domains, which have an order of their own.

    Attributes:
        sizes: examples of each domain; an index has one number a domain, in its last axis.
        domains: each domain as a source of its own.
        paired: whether test examples of an index show the same in both.
        still: the same examples at the size of those for tests, whatever the split.
        labelled: the examples of `still`, one after the other, labelled with their domain.
    """

    paired: bool

    @property
    def sizes(self) -> tuple[int, int]: ...

    @property
    def domains(self) -> tuple[Source, Source]: ...

    @property
    def still(self) -> "Unpaired": ...

    @property
    def labelled(self) -> Source: ...


def reader(source: Source) -> Callable[[np.ndarray], Batch]:
    """indices, int [n] -> their examples, on the default device or still on the host."""
    table = source.table
    if table is None:
        return source.read
    placed = jax.device_put(table)
    program = jax.jit(source.look_up)
    return lambda indices: program(placed, indices)


def pick(table: Batch, indices: Indices) -> Batch:
    """The `look_up` of a source whose table holds every example."""
    return jax.tree.map(lambda leaf: leaf[indices], table)


def resident(source: Stream) -> Batch | None:
    """Every example of a source, or None where they take more than its `resident_bytes`.

    Raises:
        InputError: an example cannot be read; it is the first such one.
    """
    size = len(source)
    if size * math.prod(source.image_shape) > source.resident_bytes:
        return None
    with ThreadPoolExecutor() as threads:
        parts = list(threads.map(source.read, np.split(np.arange(size), range(CHUNK, size, CHUNK))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def find(path: str) -> Path:
    """What a path means: from the working directory, else from the one that GAXN_DATA names.

    Raises:
        InputError: it is nowhere.
    """
    require("path", path, bool(path), "the path of a folder, or of a .zip, with pictures")
    places = [Path(path).expanduser()]
    if os.environ.get("GAXN_DATA"):
        places.append(Path(os.environ["GAXN_DATA"]) / path)
    for place in places:
        if place.exists():
            return place
    looked = " and no ".join(str(place.absolute()) for place in places)
    raise InputError(
        f"path is {path!r}; there is no {looked}; valid is a folder, or a file, from the working "
        "directory or from the one that GAXN_DATA names"
    )


def outline(source: Source, shape: tuple[int, ...]) -> Batch:
    """Shapes and types of a batch of [*shape] examples; reads none."""
    dtype = np.float32 if len(source.image_shape) == 1 else np.uint8
    images = jax.ShapeDtypeStruct((*shape, *source.image_shape), dtype)
    return Batch(images, jax.ShapeDtypeStruct(shape, np.int32) if source.class_names else None)


def describe(train: Counted, test: Counted) -> str:
    """One line: how many examples of each class the splits have."""
    train_counts, test_counts = train.counts, test.counts
    classes = (f"{name} {n:,} + {test_counts[name]:,}" for name, n in train_counts.items())
    totals = (sum(counts.values()) for counts in (train_counts, test_counts))
    return "{:,} images for training + {:,} for tests: ".format(*totals) + ", ".join(classes)
