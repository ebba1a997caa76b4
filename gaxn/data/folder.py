"""Images of a folder, or of a .zip of one."""

import collections
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

from gaxn import data
from gaxn.data import find_path, image_preparation
from gaxn.types import InputError, check

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

_ARCHIVE_LOCK = threading.Lock()


class _File(NamedTuple):
    """An image file: its class, and its path within the folder of the class and within the root.

    Without classes, `class_name` is "".
    """

    class_name: str
    path: str
    name: str


@dataclasses.dataclass(frozen=True)
class Source(data.ImageFiles):
    """Images of any size, one folder per class; without labels if they are in no folder.

    A single folder around the class folders is skipped. Hidden files, `__MACOSX` and files
    without an image suffix are ignored. The split of an image depends only on its path within
    its class (by CRC-32), so adding images moves none of the others; the split "all" has both.

    Images are prepared by `image_preparation.prepare`.

    Attributes:
        path: path of the folder or the .zip, must be set; relative to the working directory or to
            the directory in the environment variable `GAXN_DATA`.
        size: height and width of the images, in pixels; 0 for the original size, the same for all.
        crop: side of the centered square, in pixels of the file; 0 for the largest one.
        channels: 3 for RGB, 1 for gray.
        test_share: share of the images in the test split, above 0 and below 1.
        classes: names of the class folders to use; () for all.
        train_folder: name of the folder that is the training split, such as trainA, instead of a
            `test_share`; images then have no labels. "" for none.
        test_folder: name of the folder that is the test split, such as testA, together with
            train_folder; "" for none.
    """

    path: str = ""
    size: int = 64
    crop: int = 0
    channels: int = 3
    test_share: float = 0.1
    classes: tuple[str, ...] = ()
    train_folder: str = ""
    test_folder: str = ""

    splits = (*data.SPLITS, "all")

    def __post_init__(self):
        super().__post_init__()
        image_preparation.check_sizes(self.size, self.crop)
        check("channels", self.channels, self.channels in (1, 3), "3 for RGB or 1 for gray")
        check("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        consistent = bool(self.train_folder) == bool(self.test_folder)
        check("test_folder", self.test_folder, consistent, "set if, and only if, train_folder is")
        consistent = not (self.classes and self.train_folder)
        check("classes", self.classes, consistent, "() with train_folder")
        if not self._files:
            raise InputError(
                f"test_share must leave images for the {self.split} split, got {self.test_share} "
                f"of the {len(self._all_files)} images in {self._root}"
            )

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        if self.size:
            return self.size, self.size, self.channels
        return self._read_image(0).shape

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the images within the data set, in the order of their indices."""
        return tuple(file.name for file in self._files)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        if self.train_folder:
            return ()
        return tuple(sorted({file.class_name for file in self._all_files} - {""}))

    @functools.cached_property
    def identity(self) -> str:
        """Contains a checksum of the names and sizes of all files."""
        files = self._all_files
        listing = [(file.class_name, file.path, self._file_sizes[file.name]) for file in files]
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
        if not self.class_names:
            return {"images": len(self)}
        counts = collections.Counter(file.class_name for file in self._files)
        return {name: counts[name] for name in self.class_names}

    def __len__(self) -> int:
        return len(self._files)

    def read_example(self, index: int) -> tuple[np.ndarray, int]:
        image = self._read_image(index)
        if image.shape != self.image_shape:
            size, expected = (f"{w}x{h}" for h, w, _ in (image.shape, self.image_shape))
            raise InputError(
                f"{self._root / self.names[index]} has {size} pixels, others have {expected}; "
                "images must be of one size, or size above 0"
            )
        if not self.class_names:
            return image, 0
        return image, self.class_names.index(self._files[index].class_name)

    def _read_image(self, index: int) -> np.ndarray:
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
    def _all_files(self) -> list[_File]:
        """The images of all splits, by class and then by path."""
        files = sorted(_classify(self._root, self._file_sizes))
        selected = [("classes", name) for name in self.classes]
        if self.train_folder:
            selected = [("train_folder", self.train_folder), ("test_folder", self.test_folder)]
        if not selected:
            return files
        folders = {file.class_name for file in files} - {""}
        expected = f"a folder of images in {self._root} ({', '.join(sorted(folders)) or 'none'})"
        for field, name in selected:
            check(field, name, name in folders, expected)
        names = {name for _, name in selected}
        return [file for file in files if file.class_name in names]

    @functools.cached_property
    def _files(self) -> list[_File]:
        """The images of the split."""
        return [file for file in self._all_files if self.split in ("all", self._split_of(file))]

    def _split_of(self, file: _File) -> str:
        if self.train_folder:
            is_test = file.class_name == self.test_folder
        else:
            is_test = zlib.crc32(file.path.encode()) < self.test_share * 2**32
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
    except UnidentifiedImageError:
        reason = "it is not an image"
    except Exception as error:  # noqa: BLE001
        # Decoders raise errors of every type on damaged files.
        reason = data.one_line(error)
    raise InputError(reason)


def list_images(root: Path) -> dict[str, int]:
    """Returns the images in a folder or a .zip: from the path within to the size in bytes.

    Raises:
        InputError: it is neither a folder nor a .zip, or contains no image.
    """
    try:
        if root.is_dir():
            files = _walk(root)
        else:
            with zipfile.ZipFile(root) as archive:
                files = {info.filename: info.file_size for info in archive.infolist()}
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

    folders = os.walk(root, onerror=fail, followlinks=True)
    paths = (Path(folder) / name for folder, _, names in folders for name in names)
    return {
        path.relative_to(root).as_posix(): path.stat().st_size
        for path in paths
        if is_image_name(path.name)
    }


def is_image_name(name: str) -> bool:
    """Returns whether a path has an image suffix, is relative and has no hidden part."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not (hidden or path.is_absolute()) and name.lower().endswith(SUFFIXES)


def _classify(root: Path, names: Iterable[str]) -> list[_File]:
    """Returns each image with its class: the folder that it is in.

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
    if loose:
        return [_File("", path[0], name) for name, path in parts.items()]
    return [_File(path[0], "/".join(path[1:]), name) for name, path in parts.items()]


def _content(root: Path, name: str) -> bytes:
    if root.is_dir():
        return (root / name).read_bytes()
    # An open archive counts its readers without a lock.
    with _ARCHIVE_LOCK:
        return _archive(root).read(name)


@functools.lru_cache(maxsize=4)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
