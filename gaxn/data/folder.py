"""Images of a folder, or of a .zip of one."""

import dataclasses
import functools
import io
import os
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gaxn.data import check_split, find_path, image_preparation, load_resident, take
from gaxn.types import Batch, Indices, InputError, check

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

_ARCHIVE_LOCK = threading.Lock()


class _File(NamedTuple):
    """An image file of the split.

    Attributes:
        name: its path within the data set.
        label: index of its class; 0 if there are no classes.
    """

    name: str
    label: int


class _Location(NamedTuple):
    """The class of an image, and its path within the folder of the class."""

    class_name: str
    path: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Images of any size, one folder per class; without labels if they are in no folder.

    A single folder around the class folders is skipped. Hidden files, `__MACOSX` and files
    without an image suffix are ignored. The split of an image depends only on its path within
    its class (by CRC-32), so adding images moves none of the others.

    Images are prepared by `image_preparation.prepare`.

    Attributes:
        split: "train", "test", or "all" for both.
        path: of the folder or the .zip: relative to the working directory or to the directory in
            the environment variable `GAXN_DATA`.
        size: height and width of the images, in pixels; 0 for the original size, the same for all.
        crop: side of the centered square, in pixels of the file; 0 for the largest one.
        channels: 3 for RGB, 1 for gray.
        test_share: share of the images in the test split, above 0 and below 1.
        classes: names of the class folders to use; () for all.
        train_folder, test_folder: folders that are the splits, such as trainA and testA,
            instead of a `test_share`; images then have no labels. "" for none.
        resident_bytes: largest size of all decoded images that is copied to every device; larger
            sets are read as needed.
        workers: processes that read ahead then; 0 for threads of this process.
    """

    split: str = "train"
    path: str = ""
    size: int = 64
    crop: int = 0
    channels: int = 3
    test_share: float = 0.1
    classes: tuple[str, ...] = ()
    train_folder: str = ""
    test_folder: str = ""
    resident_bytes: int = 2**30
    workers: int = 0

    def __post_init__(self):
        check_split(self.split, "all")
        image_preparation.check_sizes(self.size, self.crop)
        check("channels", self.channels, self.channels in (1, 3), "3 for RGB or 1 for gray")
        check("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        check("resident_bytes", self.resident_bytes, self.resident_bytes >= 0, "0 or more")
        check("workers", self.workers, self.workers >= 0, "0 or more")
        consistent = bool(self.train_folder) == bool(self.test_folder)
        check("test_folder", self.test_folder, consistent, "set if, and only if, train_folder is")
        consistent = not (self.classes and self.train_folder)
        check("classes", self.classes, consistent, "() with train_folder")
        if not self._files:
            raise InputError(
                f"test_share must leave images for the {self.split} split, got {self.test_share} "
                f"of the {len(self._locations)} images in {self._root}"
            )

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        if self.size:
            return self.size, self.size, self.channels
        return self._load(0).shape

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the images within the data set, in the order of their indices."""
        return tuple(file.name for file in self._files)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        if self.train_folder:
            return ()
        return tuple(sorted({location.class_name for location in self._locations.values()} - {""}))

    @functools.cached_property
    def identity(self) -> str:
        """Contains a checksum of the names and sizes of all files."""
        listing = sorted(
            (*place, self._file_sizes[name]) for name, place in self._locations.items()
        )
        digest = zlib.crc32(repr(listing).encode())
        name = (
            f"{self._root.resolve().name.removesuffix('.zip')} {digest:08x} "
            f"{image_preparation.describe(self.size, self.crop)} channels={self.channels}"
        )
        if self.classes:
            name += f" classes={','.join(sorted(self.classes))}"
        if self.train_folder:
            return f"{name} train={self.train_folder} test={self.test_folder}"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

    @functools.cached_property
    def counts(self) -> Mapping[str, int]:
        """Images of the split by class."""
        names = self.class_names or ("images",)
        counts = np.bincount([file.label for file in self._files], minlength=len(names))
        return dict(zip(names, counts.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch | None:
        """All images and labels, read from their files; None if they exceed `resident_bytes`.

        Raises:
            InputError: an image cannot be read.
        """
        return load_resident(self)

    def __len__(self) -> int:
        return len(self._files)

    def look_up(self, table: Batch, indices: Indices) -> Batch:
        """Returns the images and labels at `indices`."""
        return take(table, indices)

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the images at `indices`, int [n], from their files; returns them with labels.

        Raises:
            InputError: an image cannot be read.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for row, index in enumerate(indices):
            image = self._load(int(index))
            if image.shape != self.image_shape:
                size, expected = (f"{w}x{h}" for h, w, _ in (image.shape, self.image_shape))
                raise InputError(
                    f"{self._root / self.names[index]} has {size} pixels, others have {expected}; "
                    "images must be of one size, or size above 0"
                )
            images[row] = image
        if not self.class_names:
            return Batch(images, None)
        return Batch(images, np.array([self._files[i].label for i in indices], np.int32))

    def _load(self, index: int) -> np.ndarray:
        name = self._files[index].name
        try:
            return read_image(self._root, name, self.size, self.crop, self.channels)
        except InputError as error:
            raise InputError(
                f"{self._root / name}, image {index} of the {self.split} split, cannot be used: "
                f"{error}; repair or remove it"
            ) from None

    @functools.cached_property
    def _root(self) -> Path:
        return find_path(self.path)

    @functools.cached_property
    def _file_sizes(self) -> Mapping[str, int]:
        return list_images(self._root)

    @functools.cached_property
    def _locations(self) -> Mapping[str, _Location]:
        """Locations, by name, of the images in all splits."""
        locations = _locate(self._root, self._file_sizes)
        selected = [("classes", name) for name in self.classes]
        if self.train_folder:
            selected = [("train_folder", self.train_folder), ("test_folder", self.test_folder)]
        if not selected:
            return locations
        folders = {location.class_name for location in locations.values()} - {""}
        expected = f"a folder of images in {self._root} ({', '.join(sorted(folders)) or 'none'})"
        for field, name in selected:
            check(field, name, name in folders, expected)
        names = {name for _, name in selected}
        return {name: place for name, place in locations.items() if place.class_name in names}

    @functools.cached_property
    def _files(self) -> tuple[_File, ...]:
        """The images of the split, by class and then by path."""
        label = {name: index for index, name in enumerate(self.class_names)}
        return tuple(
            _File(name, label.get(location.class_name, 0))
            for name, location in sorted(self._locations.items(), key=lambda item: item[1])
            if self.split in ("all", self._split_of(location))
        )

    def _split_of(self, location: _Location) -> str:
        if self.train_folder:
            is_test = location.class_name == self.test_folder
        else:
            is_test = zlib.crc32(location.path.encode()) < self.test_share * 2**32
        return "test" if is_test else "train"


def read_image(
    root: Path, name: str, size: int, crop: int, channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Reads and prepares an image.

    Args:
        root: a folder or a .zip.
        name: a path within.
        size, crop, channels: as in `image_preparation.prepare`.

    Raises:
        InputError: it cannot be read; gives the reason only.
    """
    try:
        with Image.open(io.BytesIO(_content(root, name))) as image:
            image.load()
            return image_preparation.prepare(image, size, crop, channels)
    except InputError:
        raise
    except UnidentifiedImageError:
        reason = "it is not an image"
    except Exception as error:  # noqa: BLE001
        # Decoders raise errors of every type on damaged files.
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(reason)


def list_images(root: Path) -> dict[str, int]:
    """Returns the images in a folder or a .zip: from the path within to the size in bytes.

    Raises:
        InputError: it is neither a folder nor a .zip, or contains no image.
    """
    try:
        files = _walk(root) if root.is_dir() else _contents(root)
    except zipfile.BadZipFile:
        raise InputError(
            f"path must be a folder or a .zip of images, got {str(root)!r}, which is neither a "
            "folder nor a complete .zip"
        ) from None
    images = {name: size for name, size in files.items() if is_image_name(name)}
    if not images:
        raise InputError(
            "path must contain images, with or without one folder per class "
            f"({', '.join(SUFFIXES)}), got {str(root)!r}, which contains no image"
        )
    return images


def _walk(root: Path) -> dict[str, int]:
    def fail(error: OSError) -> None:
        raise error

    return {
        (Path(folder) / name).relative_to(root).as_posix(): (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(root, onerror=fail, followlinks=True)
        for name in names
        if is_image_name(name)
    }


def _contents(root: Path) -> dict[str, int]:
    with zipfile.ZipFile(root) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def is_image_name(name: str) -> bool:
    """Returns whether a path has an image suffix, is relative and has no hidden part."""
    if PurePosixPath(name).is_absolute():
        return False
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(SUFFIXES)


def _locate(root: Path, names: Iterable[str]) -> dict[str, _Location]:
    """Returns the location of each image.

    Raises:
        InputError: some are in folders and others are not.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    one_folder = len({path[0] for path in parts.values()}) == 1
    if one_folder and all(len(path) > 2 for path in parts.values()):
        parts = {name: path[1:] for name, path in parts.items()}
    loose = [name for name, path in parts.items() if len(path) == 1]
    if loose and len(loose) < len(parts):
        inside = next(name for name, path in parts.items() if len(path) > 1)
        raise InputError(
            f"path must contain either one folder per class or images only, got {str(root)!r}: "
            f"{loose[0]} is beside folders and {inside} in one"
        )
    return {
        name: _Location("", "/".join(path)) if loose else _Location(path[0], "/".join(path[1:]))
        for name, path in parts.items()
    }


def _content(root: Path, name: str) -> bytes:
    if root.is_dir():
        return (root / name).read_bytes()
    # An open archive counts its readers without a lock.
    with _ARCHIVE_LOCK:
        return _archive(root).read(name)


@functools.lru_cache(maxsize=4)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
