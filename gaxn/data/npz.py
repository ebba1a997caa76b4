"""Pictures in one .npz file, as NumPy and many samplers write them."""

import contextlib
import dataclasses
import functools
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gaxn.data import find, pick
from gaxn.types import Batch, Indices, InputError, require

SPLITS = ("train", "test", "all")
IMAGES, LABELS = ("images", "arr_0"), ("labels", "arr_1")
ORDER_SEED = 2020
MOST_LABELS = 100_000


@dataclasses.dataclass(frozen=True)
class Source:
    """`images` (or `arr_0`), uint8 [n, height, width, channels], maybe `labels` (or `arr_1`).

    Labels are integers from 0, [n], or one-hot. The test split is a share of the pictures
    that is drawn once.

    Attributes:
        split: "train", "test", or "all" of both.
        path: of the file: from the working directory, else from the directory that the
            environment variable `GAXN_DATA` names.
        test_share: of the pictures that are kept for tests, above 0 and below 1.
    """

    split: str = "train"
    path: str = ""
    test_share: float = 0.1

    def __post_init__(self):
        require("split", self.split, self.split in SPLITS, ", ".join(SPLITS))
        require("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        require("path", self.path, bool(self.path), "the path of a .npz with pictures")
        if not len(self):
            raise InputError(f"path is {self.path!r}; its {self.split} split has no picture")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._whole.images.shape[1:]

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        labels = self._whole.labels
        return () if labels is None else tuple(str(n) for n in range(int(labels.max()) + 1))

    @functools.cached_property
    def identity(self) -> str:
        """Has a checksum of the pictures: others are another set."""
        digest = hashlib.sha256(np.ascontiguousarray(self._whole.images)).hexdigest()[:8]
        name = f"{find(self.path).name.removesuffix('.npz')} {digest}"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

    @property
    def counts(self) -> Mapping[str, int]:
        """Pictures of the split by class."""
        names = self.class_names or ("images",)
        labels = np.zeros(len(self), int) if self.table.labels is None else self.table.labels
        tally = np.bincount(labels, minlength=len(names))
        return dict(zip(names, tally.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch:
        """All images and labels of the split."""
        images, labels = self._whole
        return Batch(images[self._rows], None if labels is None else labels[self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def look_up(self, table: Batch, indices: Indices) -> Batch:
        """The images and labels of `indices`."""
        return pick(table, indices)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        count = len(self._whole.images)
        tests = np.random.RandomState(ORDER_SEED).permutation(count)[: int(count * self.test_share)]
        kept = {"all": np.arange(count), "test": np.sort(tests)}
        return kept.get(self.split, np.setdiff1d(np.arange(count), tests))

    @functools.cached_property
    def _whole(self) -> Batch:
        return _read(find(self.path))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz by name, read as they are asked for.

    Raises:
        InputError: it is none, or an array that is asked for is damaged.
    """
    try:
        with np.load(path) as stored:
            yield stored
    except (TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{path} is no whole .npz of plain arrays") from None


@functools.lru_cache(maxsize=2)
def _read(path: Path) -> Batch:
    """Everything in a file.

    Raises:
        InputError: it is damaged, or holds no pictures.
    """
    with opened(path) as stored:
        arrays = {name: stored[name] for name in (*IMAGES, *LABELS) if name in stored}
    images = next((arrays[name] for name in IMAGES if name in arrays), None)
    if (
        images is None
        or images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] not in (1, 3)
    ):
        raise InputError(
            f"{path} has no pictures but {_told(path)}; valid is an array images (or arr_0), uint8 "
            "[n, height, width, 1 or 3]"
        )
    labels = next((arrays[name] for name in LABELS if name in arrays), None)
    if labels is None:
        return Batch(images, None)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    whole = labels.size == len(images) and np.issubdtype(labels.dtype, np.integer)
    if not whole or (labels < 0).any() or (labels >= MOST_LABELS).any():
        raise InputError(
            f"{path} has labels that are not one whole number a picture, from 0 to "
            f"{MOST_LABELS - 1:,}"
        )
    return Batch(images, labels.reshape(-1).astype(np.int32))


def _told(path: Path) -> str:
    """The arrays of a file, for those who wonder what is wrong with them."""
    with opened(path) as stored:
        found = [f"{name}, {stored[name].dtype} {list(stored[name].shape)}" for name in stored]
    return "; ".join(found[:3]) or "nothing"
