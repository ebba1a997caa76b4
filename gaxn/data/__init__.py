"""Data sets: one module per data set, each with a `Source`.

A source is a frozen dataclass that gives the examples of one split of one data set. An example
depends on its index alone, and the splits have no example in common.
"""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from gaxn.types import Batch, Indices, InputError, PyTree, check

SPLITS = ("train", "test")
CHUNK = 256
"""Examples that one thread reads at a time."""


class Source(Protocol):
    """One split of a data set.

    Attributes:
        split: "train" or "test".
        image_shape: (height, width, channels), uint8; (features,), float32, of points; or
            (2, height, width, channels) of two domains.
        class_names: one name per label; empty if there are no labels.
        identity: name and preprocessing of the data set, the same for all splits and sizes.
        table: the arrays that `look_up` reads, copied to every device; an empty tree if
            examples are drawn from their index alone; None if the examples are too large to
            stay in memory, and the source is a `Stream`.
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
        """Returns the examples at `indices`, int [...] in [0, len); can be traced by jit."""


class Stream(Source, Protocol):
    """A source that reads its examples from files, and can be pickled for other processes.

    Attributes:
        resident_bytes: largest size of all decoded images that is copied to every device.
        workers: processes that read ahead; 0 for threads of this process.
    """

    resident_bytes: int
    workers: int

    def read(self, indices: np.ndarray) -> Batch:
        """Returns the examples at `indices`, int [n] in [0, len), as NumPy arrays.

        Raises:
            InputError: one of them cannot be read.
        """


@runtime_checkable
class KnownModes(Protocol):
    """A source whose modes are known.

    Attributes:
        modes: the feature extractor that recognizes them: "name" of a module in gaxn/features,
            and the arguments of its `load`.
    """

    @property
    def modes(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Counted(Protocol):
    """A source that counts its classes without reading an image.

    Attributes:
        counts: examples of the split by class; by "images" if there are no classes.
    """

    @property
    def counts(self) -> Mapping[str, int]: ...


@runtime_checkable
class Unpaired(Protocol):
    """A source whose examples have one image of each of two domains, shuffled independently.

    Attributes:
        sizes: examples of each domain; the last axis of the indices has one index per domain.
        domains: each domain as a source.
        paired: whether the two test images at one index show the same thing.
        at_test_size: the same examples at the image size of the test split.
        labeled: the examples of `at_test_size`, first all of A, then all of B, labeled with
            their domain.
    """

    paired: bool

    @property
    def sizes(self) -> tuple[int, int]: ...

    @property
    def domains(self) -> tuple[Source, Source]: ...

    @property
    def at_test_size(self) -> "Unpaired": ...

    @property
    def labeled(self) -> Source: ...


def check_split(split: str, *more: str) -> None:
    """Raises an InputError unless the split is in `SPLITS` or one of `more`."""
    expected = (*SPLITS, *more)
    check("split", split, split in expected, " or ".join(expected))


def make_reader(source: Source) -> Callable[[np.ndarray], Batch]:
    """Returns a function from indices, int [n], to examples, on the default device or the host."""
    table = source.table
    if table is None:
        return source.read
    placed = jax.device_put(table)
    program = jax.jit(source.look_up)
    return lambda indices: program(placed, indices)


def take(table: Batch, indices: Indices) -> Batch:
    """Implements `look_up` for a table with every example."""
    return jax.tree.map(lambda leaf: leaf[indices], table)


def load_resident(source: Stream) -> Batch | None:
    """Reads every example of a source; returns None if they exceed its `resident_bytes`.

    Raises:
        InputError: an example cannot be read; names the first one.
    """
    size = len(source)
    if size * math.prod(source.image_shape) > source.resident_bytes:
        return None
    with ThreadPoolExecutor() as threads:
        parts = list(threads.map(source.read, np.split(np.arange(size), range(CHUNK, size, CHUNK))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def find_path(path: str) -> Path:
    """Resolves a path from the working directory, else from the directory in GAXN_DATA.

    Raises:
        InputError: there is no such file or folder in either.
    """
    check("path", path, bool(path), "the path of a folder or a .zip of images")
    candidates = [Path(path).expanduser()]
    if os.environ.get("GAXN_DATA"):
        candidates.append(Path(os.environ["GAXN_DATA"]) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    missing = " and no ".join(str(candidate.absolute()) for candidate in candidates)
    raise InputError(
        "path must be a file or folder, relative to the working directory or to GAXN_DATA, got "
        f"{path!r}: there is no {missing}"
    )


def batch_spec(source: Source, shape: tuple[int, ...]) -> Batch:
    """Returns shapes and dtypes of a batch of [*shape] examples, without reading any."""
    dtype = np.float32 if len(source.image_shape) == 1 else np.uint8
    images = jax.ShapeDtypeStruct((*shape, *source.image_shape), dtype)
    return Batch(images, jax.ShapeDtypeStruct(shape, np.int32) if source.class_names else None)


def describe_counts(train: Counted, test: Counted) -> str:
    """Returns one line with the number of examples of each class in both splits."""
    train_counts, test_counts = train.counts, test.counts
    classes = (f"{name} {n:,} + {test_counts[name]:,}" for name, n in train_counts.items())
    totals = (sum(counts.values()) for counts in (train_counts, test_counts))
    return "{:,} images for training + {:,} for tests: ".format(*totals) + ", ".join(classes)
