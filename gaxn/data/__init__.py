"""Data sets: one module per data set, each with a `Source`."""

import abc
import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from gaxn.io import files
from gaxn.types import Batch, Indices, InputError, PyTree, check

log = logging.getLogger(__name__)

SPLITS = ("train", "test")
CHUNK = 256
"""Examples that one thread reads at a time."""

NAMED_PROBLEMS = 10
"""Files that an error names; it counts the others."""


MAX_REPLACEMENTS = 16
"""Images one after another that a stream may lack before a run ends."""


class UnreadableError(InputError):
    """A file that the system does not give, perhaps only now."""


class Problem(NamedTuple):
    """An example that cannot be used.

    Attributes:
        name: of its file.
        reason: why, as part of a line.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """The examples of one split of a data set.

    An example depends on its index alone, and the splits have no example in common.

    Attributes:
        split: one of `splits`.
        flip: whether training mirrors each image with probability 1/2, left to right.
        splits: the splits of the data set.
        class_names: one name per label; empty if there are no labels.
        notes: what was decided about the files and passed over, each a part of a line.
        workers: processes that `read` ahead; 0 for threads of this process.
    """

    split: str = "train"
    _: dataclasses.KW_ONLY
    flip: bool = False
    splits: ClassVar[tuple[str, ...]] = SPLITS
    class_names: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[tuple[str, ...]] = ()
    workers: ClassVar[int] = 0

    def __post_init__(self):
        check("split", self.split, self.split in self.splits, " or ".join(self.splits))

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an example: (height, width, channels) of an image, uint8.

        (2, height, width, channels) of two domains; (features,) of a point, float32.
        """

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """Name and preprocessing of the data set, the same for all splits and sizes."""

    @property
    @abc.abstractmethod
    def table(self) -> PyTree:
        """The arrays that `look_up` reads, copied to every device.

        An empty tree if examples are drawn from their index alone; None if they are too large to
        stay in memory: then `read` reads them.
        """

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @property
    def num_conditions(self) -> int:
        """Number of labels for which samples can be asked: classes, or different captions."""
        return len(self.class_names)

    def label_spec(self, shape: tuple[int, ...]) -> PyTree:
        """Returns shapes and dtypes of the labels of [*shape] examples; None without labels."""
        return jax.ShapeDtypeStruct(shape, np.int32) if self.class_names else None

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        """Returns the examples at `indices`, int [...] in [0, len); can be traced by jit."""
        return jax.tree.map(lambda leaf: leaf[indices], table)

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the examples at `indices`, int [n] in [0, len), from files, as NumPy arrays.

        Raises:
            InputError: one of them cannot be read.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded(Source):
    """A data set that is not read, as config.json of a run describes it; its images are black.

    Attributes:
        record: the description: "identity", "image_shape", "classes" and "examples" of both splits,
            and "text" of a run with captions.
    """

    record: Mapping[str, Any]

    @property
    def captions(self) -> tuple[str, ...]:
        """The different captions of the test split."""
        return tuple(self.record.get("text", {}).get("captions", ()))

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.record["image_shape"])

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.record["classes"])

    @property
    def identity(self) -> str:
        return self.record["identity"]

    @property
    def table(self) -> PyTree:
        """Nothing: no image is read."""
        return ()

    def __len__(self) -> int:
        return self.record["examples"][self.splits.index(self.split)]

    def look_up(self, table: PyTree, indices: Indices) -> Batch:
        labels = jnp.zeros(indices.shape, jnp.int32) if self.class_names else None
        return Batch(jnp.zeros((*indices.shape, *self.image_shape), jnp.uint8), labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedPair(Recorded):
    """Unpaired data of two domains that are not read; `record` has "domains" too."""

    paired = False

    @property
    def image_shape(self) -> tuple[int, ...]:
        is_train = self.split == "train"
        return tuple(
            self.record["image_shape"] if is_train else self.record["domains"]["test_shape"]
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """Images of each domain."""
        return tuple(self.record["domains"]["sizes"][self.splits.index(self.split)])

    @property
    def domains(self) -> tuple[Source, Source]:
        """Each domain as a source."""
        return tuple(
            Recorded(
                split=self.split,
                record={
                    **self.record,
                    "image_shape": self.image_shape[1:],
                    "examples": [sizes[domain] for sizes in self.record["domains"]["sizes"]],
                },
            )
            for domain in range(2)
        )

    @property
    def at_test_size(self) -> "RecordedPair":
        """This source at the image size of the test split."""
        record = {**self.record, "image_shape": self.record["domains"]["test_shape"]}
        return dataclasses.replace(self, record=record)

    @property
    def labeled(self) -> Source:
        """This source; its labels are not needed."""
        return self


def make_recorded(split: str, record: Mapping[str, Any]) -> Recorded:
    """Returns a split of data that are not read, as config.json of a run describes it."""
    return (RecordedPair if "domains" in record else Recorded)(split=split, record=record)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFiles(Source):
    """Images, each read on its own. Can be sent to other processes.

    Attributes:
        resident_bytes: largest size of all decoded images that is copied to every device; larger
            sets are read during training.
        workers: processes that read images ahead of training if they exceed resident_bytes; 0 for
            threads of this process.
    """

    resident_bytes: int = 2**30
    workers: int = 0

    def __post_init__(self):
        super().__post_init__()
        check("resident_bytes", self.resident_bytes, self.resident_bytes >= 0, "0 or more")
        check("workers", self.workers, self.workers >= 0, "0 or more")

    @functools.cached_property
    def table(self) -> Batch | None:
        """All images and labels, read from their files; None if they exceed `resident_bytes`.

        Raises:
            InputError: images cannot be used; names the first ones and counts them.
        """
        size = len(self)
        is_resident = size * math.prod(self.image_shape) <= self.resident_bytes
        parts, problems = [], []
        if is_resident:
            chunks = np.split(np.arange(size), range(CHUNK, size, CHUNK))
            with ThreadPoolExecutor() as threads:
                for batch, chunk_problems in threads.map(self._try_to_read, chunks):
                    parts.append(batch)
                    problems += chunk_problems
        self._raise_problems([*problems, *self.find_other_problems(is_resident)])
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if parts else None

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the examples at `indices`, int [n] in [0, len), from files, as NumPy arrays.

        In place of an image that cannot be used comes the next one that can, with its label: a run
        must not end at one wrong byte, hours after its start. The batch is still a function of
        the files and the indices. Warnings name the first ten such images of a process.

        Raises:
            InputError: a file cannot be opened, or too many one after another cannot be used.
        """
        return self.read_usable(indices)[0]

    def read_usable(self, indices: np.ndarray) -> tuple[Batch, np.ndarray]:
        """Reads examples as `read` does; returns beside them the indices of those that were read.

        The arguments and errors are those of `read`.
        """
        read_indices = np.array(indices)

        def read_example(index: int) -> tuple[np.ndarray, int]:
            usable, example = self._read_next_usable(index)
            read_indices[indices == index] = usable
            return example

        batch, problems = self._try_to_read(indices, read_example)
        self._raise_problems(problems)
        return batch, read_indices

    def _read_next_usable(self, index: int) -> tuple[int, tuple[np.ndarray, int]]:
        """Returns the first usable example from an index on, after its index."""
        for following in range(index, index + MAX_REPLACEMENTS):
            usable = following % len(self)
            try:
                return usable, self.read_example(usable)
            except UnreadableError:
                raise
            except InputError as error:
                self._warn_once(usable, str(error))
        return index, self.read_example(index)

    def _warn_once(self, index: int, reason: str) -> None:
        if index in self._replaced or len(self._replaced) > NAMED_PROBLEMS:
            return
        self._replaced.add(index)
        if len(self._replaced) > NAMED_PROBLEMS:
            log.warning("warning: %s: further images that cannot be used are not named", self.place)
        else:
            problem = describe_problems([Problem(self.name_example(index), reason)])
            log.warning("warning: %s: %s; the next one takes its place", self.place, problem)

    @functools.cached_property
    def _replaced(self) -> set[int]:
        """Indices of the images that a warning named."""
        return set()

    def _try_to_read(
        self,
        indices: np.ndarray,
        read_example: Callable[[int], tuple[np.ndarray, int]] | None = None,
    ) -> tuple[Batch, list[Problem]]:
        """Reads examples, by default exactly those at `indices`; returns problems beside them."""
        read_example = read_example or self.read_example
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        problems = []
        for row, index in enumerate(indices):
            try:
                images[row], labels[row] = read_example(int(index))
            except InputError as error:
                problems.append(Problem(self.name_example(int(index)), str(error)))
        return Batch(images, labels if self.class_names else None), problems

    def _raise_problems(self, problems: Sequence[Problem]) -> None:
        if problems:
            raise InputError(f"{self.place}: {describe_problems(problems)}; {self.remedy}")

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Names the data set, for errors."""

    remedy: ClassVar[str] = "repair or remove them"

    @abc.abstractmethod
    def name_example(self, index: int) -> str:
        """Names an example within the data set, for errors."""

    @abc.abstractmethod
    def read_example(self, index: int) -> tuple[UInt8[np.ndarray, "height width channels"], int]:
        """Reads an image and its label, 0 if there are no labels.

        Raises:
            UnreadableError: the file cannot be opened; gives the reason only.
            InputError: it cannot be used; gives the reason only.
        """

    def find_other_problems(self, is_resident: bool) -> list[Problem]:
        """Finds files that cannot be used, before training, beside those that `table` reads."""
        return []


@runtime_checkable
class Captioned(Protocol):
    """A source whose images may have captions."""

    @property
    def captions(self) -> Sequence[str]:
        """Texts of the images, "" for none."""


@runtime_checkable
class KnownModes(Protocol):
    """A source whose modes are known."""

    @property
    def modes(self) -> Mapping[str, Any]:
        """The feature extractor that recognizes them.

        "name" of a module in gaxn/features, and the arguments of its `load`.
        """


@runtime_checkable
class KnownWords(Protocol):
    """A source whose captions have known words, each true of its image."""

    words: Mapping[str, tuple[str, ...]]
    """Names of the words by attribute, such as "color"."""

    @property
    def captions(self) -> Sequence[str]:
        """Sentences of the images, in the order of their indices."""

    @property
    def complete(self) -> "KnownWords":
        """This source with no combination of words held out of training."""

    def attributes(self, indices: Indices) -> Mapping[str, jax.Array]:
        """Returns for each attribute the index in `words` of the true word; can be traced."""

    def is_held_out(self, indices: Indices) -> jax.Array:
        """Returns whether training lacks a combination of words; can be traced."""


@runtime_checkable
class Counted(Protocol):
    """A source that counts its classes without reading an image."""

    notes: tuple[str, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """Examples of the split by class; by "images" if there are no classes."""


@runtime_checkable
class Unpaired(Protocol):
    """A source whose examples have one image of each of two domains, shuffled independently."""

    paired: bool
    """Whether the two test images at one index show the same thing."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Examples of each domain; the last axis of the indices has one index per domain."""

    @property
    def domains(self) -> tuple[Source, Source]:
        """Each domain as a source."""

    @property
    def at_test_size(self) -> "Unpaired":
        """This source at the image size of the test split."""

    @property
    def labeled(self) -> Source:
        """The images of `at_test_size`, all of A and then of B, labeled with their domain."""


def make_reader(source: Source) -> Callable[[np.ndarray], Batch]:
    """Returns a function from indices, int [n], to examples, on the default device or the host."""
    table = source.table
    if table is None:
        return source.read
    placed = jax.device_put(table)
    program = jax.jit(source.look_up)
    return lambda indices: program(placed, indices)


def find_path(path: str) -> Path:
    """Resolves a path from the working directory, else from the directory in GAXN_DATA.

    Raises:
        InputError: there is no such file or folder in either.
    """
    check("path", path, bool(path), "the path of a folder or a .zip of images")
    candidates = [files.expand(path)]
    if os.environ.get("GAXN_DATA") and not candidates[0].is_absolute():
        candidates.append(files.expand(os.environ["GAXN_DATA"]) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    missing = " and no ".join(str(candidate.absolute()) for candidate in candidates)
    raise InputError(
        "path must be a file or folder, relative to the working directory or to GAXN_DATA, got "
        f"{path!r}: there is no {missing}"
    )


def one_line(error: Exception) -> str:
    """Returns the message of an error in one line; its type if there is no message."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def describe_problems(problems: Sequence[Problem]) -> str:
    """Returns how many images cannot be used, and which: a part of a line."""
    names = ", ".join(f"{name} ({reason})" for name, reason in problems[:NAMED_PROBLEMS])
    others = len(problems) - NAMED_PROBLEMS
    return (
        f"{len(problems):,} {'image' if len(problems) == 1 else 'images'} cannot be used: {names}"
        + (f" and {others:,} more" if others > 0 else "")
    )


def printable(text: str) -> str:
    """Returns the name of a file as part of a line: bytes that are no text become `\\xe9`."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape").decode().replace("\\udc", "\\x")
        for letter in text
    )


def batch_spec(source: Source, shape: tuple[int, ...]) -> Batch:
    """Returns shapes and dtypes of a batch of [*shape] examples, without reading any."""
    dtype = np.float32 if len(source.image_shape) == 1 else np.uint8
    images = jax.ShapeDtypeStruct((*shape, *source.image_shape), dtype)
    return Batch(images, source.label_spec(shape))


def describe_counts(train: Counted, test: Counted) -> str:
    """Returns one line: examples of each class in both splits, and the notes of the source."""
    train_counts, test_counts = train.counts, test.counts
    classes = (f"{name} {n:,} + {test_counts[name]:,}" for name, n in train_counts.items())
    totals = (sum(counts.values()) for counts in (train_counts, test_counts))
    line = "{:,} images for training + {:,} for tests: ".format(*totals) + ", ".join(classes)
    return "; ".join((line, *train.notes))
