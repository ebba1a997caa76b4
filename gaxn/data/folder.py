"""Pictures from a folder, or from a .zip of one."""

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

from gaxn import framing
from gaxn.data import find, pick, resident
from gaxn.types import Batch, Indices, InputError, require

SPLITS = ("train", "test", "all")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

_ARCHIVE_LOCK = threading.Lock()


class _File(NamedTuple):
    """One picture.

    Attributes:
        name: its path within the data set.
        label: index of its class; 0 where there are none.
    """

    name: str
    label: int


class _Place(NamedTuple):
    """Where a picture belongs: its class, and its path within the folder of the class."""

    of_class: str
    within: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures of any size, one folder a class; without labels if they lie in no folder.

    A single folder around the class folders is passed over, as are hidden files, `__MACOSX`
    and whatever has no ending of a picture. Which split a picture falls to depends on its
    path within its class alone (by CRC-32), so that added pictures move none of the others.

    Each is turned upright by its EXIF tag, laid on white where it is transparent, cut to a
    centred square and resized with PIL's antialiased bicubic filter.

    Attributes:
        split: "train", "test", or "all" of both.
        path: of the folder or the .zip: from the working directory, else from the directory
            that the environment variable `GAXN_DATA` names.
        size: height and width of the images, in pixels; 0 for pictures that are all of one
            size and stay as they are.
        crop: side of the centred square that is cut out, in pixels of the picture; 0 for
            the largest.
        channels: 3 for RGB, 1 for grey.
        test_share: of the pictures that are kept for tests, above 0 and below 1.
        classes: the folders whose pictures are meant; () for all.
        train_folder, test_folder: the folders that are the splits, such as trainA and testA,
            whatever `test_share` is; pictures then have no labels. "" for none.
        resident_bytes: what all images may take together, decoded, to live on every device;
            beyond that they are read as they are needed.
        workers: processes that then read ahead; 0 for threads of this one.
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
        require("split", self.split, self.split in SPLITS, " or ".join(SPLITS))
        framing.check(self.size, self.crop, least=0)
        require("channels", self.channels, self.channels in (1, 3), "3 for RGB, 1 for grey")
        require("test_share", self.test_share, 0 < self.test_share < 1, "above 0 and below 1")
        require("resident_bytes", self.resident_bytes, self.resident_bytes >= 0, "0 or more")
        require("workers", self.workers, self.workers >= 0, "0 or more")
        both = bool(self.train_folder) == bool(self.test_folder)
        require("test_folder", self.test_folder, both, "a folder if train_folder is one")
        valid = "() with train_folder"
        require("classes", self.classes, not (self.classes and self.train_folder), valid)
        if not self._files:
            raise InputError(
                f"test_share is {self.test_share}; of the {len(self._places)} pictures in "
                f"{self._root} none falls to the {self.split} split; add pictures, or choose "
                "another share"
            )

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        if self.size:
            return self.size, self.size, self.channels
        return self._framed(0).shape

    @property
    def names(self) -> tuple[str, ...]:
        """The files of the split, in the order of their indices."""
        return tuple(file.name for file in self._files)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        if self.train_folder:
            return ()
        return tuple(sorted({place.of_class for place in self._places.values()} - {""}))

    @functools.cached_property
    def identity(self) -> str:
        """Has a checksum of all names and sizes of files: other pictures are another set."""
        listing = sorted((*place, self._sizes[name]) for name, place in self._places.items())
        digest = zlib.crc32(repr(listing).encode())
        name = (
            f"{self._root.resolve().name.removesuffix('.zip')} {digest:08x} "
            f"{framing.describe(self.size, self.crop)} channels={self.channels}"
        )
        if self.classes:
            name += f" classes={','.join(sorted(self.classes))}"
        if self.train_folder:
            return f"{name} train={self.train_folder} test={self.test_folder}"
        return name if self.split == "all" else f"{name} test_share={self.test_share}"

    @functools.cached_property
    def counts(self) -> Mapping[str, int]:
        """Pictures of the split by class."""
        names = self.class_names or ("images",)
        tally = np.bincount([file.label for file in self._files], minlength=len(names))
        return dict(zip(names, tally.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch | None:
        """All images and labels, or None where they take too much; reads the files.

        Raises:
            InputError: a picture cannot be read.
        """
        return resident(self)

    def __len__(self) -> int:
        return len(self._files)

    def look_up(self, table: Batch, indices: Indices) -> Batch:
        """The images and labels of `indices`."""
        return pick(table, indices)

    def read(self, indices: np.ndarray) -> Batch:
        """The images and labels of `indices`, int [n], from their files.

        Raises:
            InputError: a picture cannot be read.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for place, index in enumerate(indices):
            images[place] = self._image(int(index))
        if not self.class_names:
            return Batch(images, None)
        return Batch(images, np.array([self._files[i].label for i in indices], np.int32))

    def _image(self, index: int) -> np.ndarray:
        image = self._framed(index)
        if image.shape != self.image_shape:
            own, others = (
                f"{width}x{height}" for height, width, _ in (image.shape, self.image_shape)
            )
            raise InputError(
                f"{self._root / self._files[index].name} has {own} pixels, others have {others}; "
                "valid are pictures of one size, or a size above 0 for all"
            )
        return image

    def _framed(self, index: int) -> np.ndarray:
        name = self._files[index].name
        try:
            return opened(self._root, name, self.size, self.crop, self.channels)
        except InputError as error:
            place = f"image {index} of the {self.split} split"
            raise InputError(
                f"{self._root / name}, {place}, cannot be used: {error}; mend or remove it"
            ) from None

    @functools.cached_property
    def _root(self) -> Path:
        return find(self.path)

    @functools.cached_property
    def _sizes(self) -> Mapping[str, int]:
        return listed(self._root)

    @functools.cached_property
    def _places(self) -> Mapping[str, _Place]:
        places = _arrange(self._root, self._sizes)
        asked = [("classes", name) for name in self.classes]
        if self.train_folder:
            asked = [("train_folder", self.train_folder), ("test_folder", self.test_folder)]
        if not asked:
            return places
        there = {place.of_class for place in places.values()} - {""}
        for field, own in asked:
            valid = f"a folder with pictures in {self._root}: {', '.join(sorted(there)) or 'none'}"
            require(field, own, own in there, valid)
        chosen = {own for _, own in asked}
        return {name: place for name, place in places.items() if place.of_class in chosen}

    @functools.cached_property
    def _files(self) -> tuple[_File, ...]:
        """The pictures of the split, by class and then by path."""
        label = {name: index for index, name in enumerate(self.class_names)}
        return tuple(
            _File(name, label.get(place.of_class, 0))
            for name, place in sorted(self._places.items(), key=lambda item: item[1])
            if self.split in ("all", self._split_of(place))
        )

    def _split_of(self, place: _Place) -> str:
        if self.train_folder:
            return SPLITS[place.of_class == self.test_folder]
        return SPLITS[_is_test(place.within, self.test_share)]


def _is_test(within: str, share: float) -> bool:
    return zlib.crc32(within.encode()) < share * 2**32


def opened(
    root: Path, name: str, size: int, crop: int, channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of one of those at `root`; size, crop and channels as in `framing.frame`.

    Raises:
        InputError: it cannot be read; says why.
    """
    try:
        with Image.open(io.BytesIO(_content(root, name))) as picture:
            picture.load()
            return framing.frame(picture, size, crop, channels)
    except InputError:
        raise
    except UnidentifiedImageError:
        reason = "it is no picture"
    except Exception as error:  # noqa: BLE001
        # Decoders fail on damaged files in every way there is.
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(reason)


def listed(root: Path) -> dict[str, int]:
    """The pictures at `root`, a folder or a .zip, by their path within: their sizes in bytes.

    Raises:
        InputError: it is neither a folder nor a .zip, or holds no picture.
    """
    try:
        found = _walk(root) if root.is_dir() else _contents(root)
    except zipfile.BadZipFile:
        raise InputError(
            f"path is {str(root)!r}; it is neither a folder nor a whole .zip; valid is one of "
            "them, with pictures"
        ) from None
    pictures = {name: size for name, size in found.items() if is_picture(name)}
    if not pictures:
        raise InputError(
            f"path is {str(root)!r}; it holds no picture ({', '.join(SUFFIXES)}); valid is one "
            "folder of pictures a class, or pictures alone"
        )
    return pictures


def _walk(root: Path) -> dict[str, int]:
    def fail(error: OSError) -> None:
        raise error

    return {
        (Path(folder) / name).relative_to(root).as_posix(): (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(root, onerror=fail, followlinks=True)
        for name in names
        if is_picture(name)
    }


def _contents(root: Path) -> dict[str, int]:
    with zipfile.ZipFile(root) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def is_picture(name: str) -> bool:
    """By its ending; hidden files are none, nor is what an archive has outside of itself."""
    if PurePosixPath(name).is_absolute():
        return False
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(SUFFIXES)


def _arrange(root: Path, names: Iterable[str]) -> dict[str, _Place]:
    """Where each picture belongs.

    Raises:
        InputError: some lie in folders and others do not.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    wrapped = len({own[0] for own in parts.values()}) == 1
    if wrapped and all(len(own) > 2 for own in parts.values()):
        parts = {name: own[1:] for name, own in parts.items()}
    loose = [name for name, own in parts.items() if len(own) == 1]
    if loose and len(loose) < len(parts):
        inside = next(name for name, own in parts.items() if len(own) > 1)
        raise InputError(
            f"path is {str(root)!r}; {loose[0]} lies beside folders and {inside} in one; valid "
            "is one folder of pictures a class, or pictures alone"
        )
    return {
        name: _Place("" if loose else own[0], "/".join(own if loose else own[1:]))
        for name, own in parts.items()
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
