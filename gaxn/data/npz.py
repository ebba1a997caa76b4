"""Images in one .npz file, as NumPy and many samplers write them."""

import contextlib
import dataclasses
import functools
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gaxn import data
from gaxn.data import find_path
from gaxn.types import Batch, InputError, check

IMAGES, LABELS = ("images", "arr_0"), ("labels", "arr_1")
ORDER_SEED = 2020
MAX_CLASSES = 100_000


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Images from `images` (or `arr_0`), uint8 [n, height, width, channels].

    Labels, if any, are `labels` (or `arr_1`): integers from 0, [n], or one-hot. The test split
    is a fixed random share of the images; the split "all" has all of them.

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

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        labels = self._arrays.labels
        return () if labels is None else tuple(str(n) for n in range(int(labels.max()) + 1))

    @functools.cached_property
    def identity(self) -> str:
        """Contains a checksum of the images."""
        digest = hashlib.sha256(np.ascontiguousarray(self._arrays.images)).hexdigest()[:8]
        name = f"{find_path(self.path).name.removesuffix('.npz')} {digest}"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

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
        images, labels = self._arrays
        return Batch(images[self._rows], None if labels is None else labels[self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        count = len(self._arrays.images)
        rows = np.arange(count)
        tests = np.random.RandomState(ORDER_SEED).permutation(count)[: int(count * self.test_share)]
        if self.split == "test":
            return np.sort(tests)
        return rows if self.split == "all" else np.setdiff1d(rows, tests)

    @functools.cached_property
    def _arrays(self) -> Batch:
        return _read(find_path(self.path))


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens a .npz; the arrays, by name, are read on access.

    Raises:
        InputError: it is not a .npz, or an array that is accessed is damaged.
    """
    try:
        with np.load(path) as arrays:
            yield arrays
    except (TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise InputError(f"{path} must be a complete .npz of plain arrays") from None


@functools.lru_cache(maxsize=2)
def _read(path: Path) -> Batch:
    """Returns all images and labels of a file.

    Raises:
        InputError: it is damaged, or contains no images or wrong labels.
    """
    with open_arrays(path) as arrays:
        images = next((arrays[name] for name in IMAGES if name in arrays), None)
        labels = next((arrays[name] for name in LABELS if name in arrays), None)
        if images is None or images.dtype != np.uint8 or images.shape[3:] not in ((1,), (3,)):
            summaries = [f"{name}, {_summary(arrays[name])}" for name in arrays]
            raise InputError(
                f"{path} must contain an array images (or arr_0), uint8 [n, height, width, "
                f"1 or 3], got {'; '.join(summaries[:3]) or 'nothing'}"
            )
    if labels is None:
        return Batch(images, None)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    matching = labels.size == len(images) and np.issubdtype(labels.dtype, np.integer)
    if not matching or (labels < 0).any() or (labels >= MAX_CLASSES).any():
        raise InputError(
            f"{path} must have one integer label per image, from 0 to {MAX_CLASSES - 1:,}, got "
            + (f"{labels.min()} to {labels.max()}" if matching else _summary(labels))
        )
    return Batch(images, labels.reshape(-1).astype(np.int32))


def _summary(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
