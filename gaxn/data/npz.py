"""Images in one .npz file, as NumPy and many samplers write them."""

import contextlib
import dataclasses
import functools
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gaxn import data
from gaxn.data import find_path, printable
from gaxn.data.classes import choose_tests, describe_untested, number_classes
from gaxn.types import Batch, HostLabels, HostPixels, InputError, check

IMAGES, LABELS, TEXTS = ("images", "arr_0"), ("labels", "arr_1"), "texts"
ORDER_SEED = 2020


class _Arrays(NamedTuple):
    """The arrays of a file.

    Attributes:
        images: uint8 [n, height, width, channels].
        labels: int32 [n], classes from 0; None if there are none.
        class_names: the labels in the file, by class.
        captions: of the images; () if there are none.
        others: names of further arrays.
    """

    images: HostPixels
    labels: HostLabels | None
    class_names: tuple[str, ...]
    captions: tuple[str, ...]
    others: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Images from `images` (or `arr_0`), uint8 [n, height, width, channels].

    Labels, if any, are `labels` (or `arr_1`): whole numbers of any type, [n] or [n, 1], or one-hot.
    The classes are the labels that occur. Captions, if any, are `texts`, text [n]. The test split
    is a fixed random share of the images, in which each class of two images or more is; the split
    "all" has all of them.

    Attributes:
        path: path of the file, must be set; relative to the working directory or to the directory
            in the environment variable `GAXN_DATA`.
        test_share: share of the images in the test split, above 0 and below 1.
    """

    path: str = ""
    test_share: float = 0.1

    splits = (*data.SPLITS, "all")

    def __post_init__(self):
        super().__post_init__()
        check("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        check("path", self.path, bool(self.path), "the path of a .npz of images")
        check("path", self.path, len(self) > 0, f"a .npz with images for the {self.split} split")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._arrays.images.shape[1:]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._arrays.class_names

    @property
    def captions(self) -> tuple[str, ...]:
        """Texts of the images, "" for none."""
        captions = self._arrays.captions
        return tuple(captions[row] if captions else "" for row in self._rows)

    @functools.cached_property
    def identity(self) -> str:
        """Contains a checksum of the images and labels."""
        images, labels, names, captions, _ = self._arrays
        digest = hashlib.sha256(repr((images.shape, names)).encode())
        digest.update(np.ascontiguousarray(images))
        if labels is not None:
            digest.update(labels)
        if captions:
            digest.update("\n".join(captions).encode())
        name = f"npz {digest.hexdigest()[:8]}"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        _, labels, names, _, others = self._arrays
        passed_over = f"passed over: other arrays ({len(others)}: {', '.join(others[:5])})"
        notes = (passed_over,) if others else ()
        if self.split == "all" or labels is None:
            return notes
        counts = np.bincount(labels)
        untested = [name for name, n in zip(names, counts, strict=True) if n == 1]
        return notes + describe_untested(untested)

    @property
    def counts(self) -> Mapping[str, int]:
        """Images of the split by class."""
        names = self.class_names or ("images",)
        labels = np.zeros(len(self), int) if self.table.labels is None else self.table.labels
        counts = np.bincount(labels, minlength=len(names))
        return dict(zip(names, counts.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch:
        """All images and labels of the split."""
        images, labels, *_ = self._arrays
        return Batch(images[self._rows], None if labels is None else labels[self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        count = len(self._arrays.images)
        if self.split == "all" or not count:
            return np.arange(count)
        ranks = np.argsort(np.random.RandomState(ORDER_SEED).permutation(count))
        labels = self._arrays.labels
        groups = np.zeros(count, int) if labels is None else labels
        is_test = choose_tests(ranks, int(count * self.test_share), groups)
        return np.flatnonzero(is_test == (self.split == "test"))

    @functools.cached_property
    def _arrays(self) -> _Arrays:
        path = find_path(self.path)
        return _read(path, path.stat().st_mtime_ns)


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens a .npz; the arrays, by name, are read on access.

    Raises:
        InputError: it is not a .npz, or an array that is accessed is damaged.
    """
    try:
        with np.load(path) as arrays:
            yield arrays
    except (TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError):
        raise InputError(f"{path} must be a complete .npz of plain arrays") from None


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> _Arrays:
    """Returns all images and labels of a file.

    Args:
        path: of the file.
        changed: time of its last change, so that a file that was written anew is read again.

    Raises:
        InputError: it is damaged, or contains no images or wrong labels.
    """
    with open_arrays(path) as arrays:
        names = [next((name for name in pair if name in arrays), "") for pair in (IMAGES, LABELS)]
        images, labels = (arrays[name] if name else None for name in names)
        texts = arrays.get(TEXTS)
        others = tuple(printable(name) for name in arrays if name not in (*names, TEXTS))
        is_array = isinstance(images, np.ndarray)
        if not is_array or images.dtype != np.uint8 or images.shape[3:] not in ((1,), (3,)):
            summaries = [f"{printable(name)}, {_summary(arrays[name])}" for name in [*arrays][:3]]
            raise InputError(
                f"{path} must contain an array images (or arr_0), uint8 [n, height, width, "
                f"1 or 3], got {'; '.join(summaries) or 'nothing'}"
            )
    captions = () if texts is None else _check_texts(path, texts, len(images))
    if labels is None:
        return _Arrays(images, None, (), captions, others)
    try:
        return _Arrays(images, *number_classes(labels, len(images)), captions, others)
    except InputError as error:
        raise InputError(f"{path} must have {error}") from None


def _check_texts(path: Path, texts: np.ndarray | bytes, count: int) -> tuple[str, ...]:
    is_text = isinstance(texts, np.ndarray) and texts.dtype.kind == "U"
    if not is_text or texts.shape != (count,):
        raise InputError(
            f"{path} must have one text per image in the array {TEXTS}, str [{count}], got "
            f"{_summary(texts)}"
        )
    return tuple(map(str, texts))


def _summary(content: np.ndarray | bytes) -> str:
    is_array = isinstance(content, np.ndarray)
    return f"{content.dtype} {list(content.shape)}" if is_array else "no array"
