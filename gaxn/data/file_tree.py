"""The files of a folder, or of a .zip of one: listed and read alike."""

import collections
import contextlib
import functools
import heapq
import os
import stat
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from gaxn.types import InputError

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
)
"""Endings of pictures; those that this Pillow cannot open do not count."""

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
"""First bytes by which a file without an ending is a picture; WebP is another."""

SIDECARS = ("dataset.json", "metadata.jsonl", "metadata.csv")
"""Files with the labels or captions of the images beside them."""

SYSTEM_FILES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"),
    *("recycler", "#recycle", "system volume information", "lost+found"),
}

UTF_8_FLAG, UNIX = 0x800, 3
"""Of a .zip entry: its name is in UTF-8; the system that wrote it."""

_ARCHIVE_LOCK = threading.Lock()


class Listing(NamedTuple):
    """The files of a data set, without hidden ones and those of operating systems.

    Attributes:
        images: size in bytes of each image, by its name: the path within, with slashes.
        sidecars: names of files that may have labels.
        ignored: numbers of all other files, by their ending.
        skipped: numbers of links and paths that add no image, by the reason.
    """

    images: Mapping[str, int]
    sidecars: tuple[str, ...]
    ignored: Mapping[str, int]
    skipped: Mapping[str, int]


class _Entry(NamedTuple):
    """A file: its name, its size in bytes, and the real file that it is or links to."""

    name: str
    size: int
    real_path: str


def list_files(root: Path) -> Listing:
    """Lists a folder or a .zip.

    Raises:
        InputError: it is neither a folder nor a .zip, cannot be read, or contains no image.
    """
    images, sidecars, real_paths = {}, [], set()
    ignored, skipped = collections.Counter(), collections.Counter()
    try:
        for entry in _walk(root, skipped) if root.is_dir() else _unzip(root, skipped):
            ending = os.path.splitext(entry.name)[1].lower()
            if os.path.basename(entry.name) in SIDECARS:
                sidecars.append(entry.name)
            elif not (is_image_name(entry.name) or (not ending and _is_picture(root, entry.name))):
                ignored[ending or "no ending"] += 1
            elif entry.real_path in real_paths:
                skipped["links to images that are counted already"] += 1
            else:
                images[entry.name] = entry.size
                real_paths.add(entry.real_path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        raise InputError(
            f"path must be a folder or a .zip of images, got {str(root)!r}, which is neither a "
            "folder nor a complete .zip"
        ) from None
    except OSError as error:
        raise InputError(f"path must be readable, got {str(root)!r}: {error}") from None
    if not images:
        raise InputError(
            "path must contain images, with or without one folder per class "
            f"({', '.join(_openable_endings())}), got {str(root)!r}, which contains no image"
        )
    return Listing(images, tuple(sorted(sidecars)), ignored, skipped)


def is_image_name(name: str) -> bool:
    """Returns whether a path has the ending of a picture and no hidden part."""
    return _is_visible(name) and name.lower().endswith(_openable_endings())


def read_file(root: Path, name: str) -> bytes:
    """Reads a file of a folder or a .zip."""
    if root.is_dir():
        return (root / name).read_bytes()
    archive, entries = _open_archive(root, root.stat().st_mtime_ns)
    # An open archive counts its readers without a lock.
    with _ARCHIVE_LOCK:
        return archive.read(entries[name])


def read_ends(root: Path, name: str, count: int) -> tuple[bytes, bytes]:
    """Reads the first and the last bytes of a file; one in a .zip is read completely."""
    if not root.is_dir():
        content = read_file(root, name)
        return content[:count], content[-count:]
    with open(root / name, "rb") as file:
        head = file.read(count)
        file.seek(-min(count, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return head, file.read()


@functools.cache
def _openable_endings() -> tuple[str, ...]:
    known = Image.registered_extensions()
    return tuple(ending for ending in ENDINGS if ending in known)


def _is_visible(name: str) -> bool:
    return not any(
        part.startswith(".") or part.lower() in SYSTEM_FILES for part in PurePosixPath(name).parts
    )


def _is_picture(root: Path, name: str) -> bool:
    try:
        head = read_ends(root, name, 16)[0]
    except Exception:  # noqa: BLE001
        # An unreadable file is one that is passed over.
        return False
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _walk(root: Path, skipped: collections.Counter) -> Iterator[_Entry]:
    """Yields the visible files of a folder, and then those that links lead to.

    A folder is read once, under its real name if it has one within `root`. A link to a folder
    that contains the link is not followed.
    """
    top = os.path.realpath(root)
    folders, pending, visited = [("", top)], [], set()
    while folders or pending:
        if not folders:
            name, parent, target = heapq.heappop(pending)
            if os.path.isfile(target):
                yield _Entry(name, os.path.getsize(target), target)
            elif not os.path.isdir(target):
                skipped["links without a target"] += 1
            elif target in visited or any(_contains(target, path) for path in (parent, top)):
                skipped["links to folders that are read already"] += 1
            else:
                folders.append((f"{name}/", target))
            continue
        prefix, folder = folders.pop()
        if folder in visited:
            continue
        visited.add(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if not _is_visible(entry.name):
                    continue
                if entry.is_symlink():
                    heapq.heappush(pending, (name, folder, os.path.realpath(entry.path)))
                elif entry.is_dir():
                    folders.append((f"{name}/", entry.path))
                elif entry.is_file():
                    yield _Entry(name, entry.stat().st_size, entry.path)


def _contains(folder: str, path: str) -> bool:
    return os.path.commonpath((folder, path)) == folder


def _unzip(root: Path, skipped: collections.Counter) -> Iterator[_Entry]:
    """Yields the visible files of a .zip."""
    for name, info in _open_archive(root, root.stat().st_mtime_ns)[1].items():
        if stat.S_ISLNK(info.external_attr >> 16):
            skipped["links in a .zip"] += 1
        elif name.startswith("/") or ".." in name.split("/"):
            skipped["paths outside of the .zip"] += 1
        elif _is_visible(name):
            yield _Entry(name, info.file_size, name)


@functools.lru_cache(maxsize=4)
def _open_archive(
    path: Path, modified: int
) -> tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]:
    """Opens a .zip; returns it and its files by name. `modified` distinguishes its versions."""
    archive = zipfile.ZipFile(path)
    return archive, {_name(info): info for info in archive.infolist() if not _is_folder(info)}


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(("/", "\\"))


def _name(info: zipfile.ZipInfo) -> str:
    """Returns the name of a file in a .zip as a folder would have it.

    Windows writes backslashes. A name without the flag for UTF-8 is in code page 437, but on Unix
    it is whatever bytes the file system has.
    """
    name = info.orig_filename
    if not info.flag_bits & UTF_8_FLAG:
        encoded = name.encode("cp437")
        errors = "surrogateescape" if info.create_system == UNIX else "strict"
        with contextlib.suppress(UnicodeDecodeError):
            name = encoded.decode("utf-8", errors)
    name = name.partition("\0")[0].replace("\\", "/")
    parts = (part for part in name.split("/") if part not in ("", "."))
    return "/" * name.startswith("/") + "/".join(parts)
