"""Readers and writers of JSON, JSON lines, PNG, GIF and bytes.

A file is written beside its path and then renamed, so that no reader ever sees half of it. Of
several processes only the first writes.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaxn.distributed import multihost
from gaxn.types import InputError, check

log = logging.getLogger(__name__)

MAX_GIF_SIDE = 4_000


def expand(text: str | Path) -> Path:
    """Returns a path without "~", which a shell leaves in --workdir=~/runs as it is.

    Raises:
        InputError: there is no such home directory.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"the path {str(text)!r} must begin with a home directory") from None


def check_writable(path: Path, field: str, protected: Iterable[Path] = ()) -> None:
    """Refuses a path where no file can be written, before any work is done.

    Args:
        path: of the file.
        field: the name of the option that gave the path, for the error.
        protected: files that must not be written over.

    Raises:
        InputError: the path is a directory or a device, lies in no writable directory, or is one
            of the protected files.
    """
    target = Path(os.path.realpath(path))
    text = str(path) if path != Path() else ""
    check(field, text, not target.exists() or target.is_file(), "the path of a file")
    parent = next(parent for parent in target.parents if parent.exists())
    check(field, text, parent.is_dir(), "the path of a file in a directory")
    check(field, text, os.access(parent, os.W_OK), "the path of a file in a writable directory")
    others = {Path(os.path.realpath(other)) for other in protected}
    check(field, text, target not in others, "another path than that of a set")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, with null for numbers that are not finite."""
    write_bytes(path, f"{_dumps(value, indent=2)}\n".encode())


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file."""
    return json.loads(path.read_text())


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a record to a .jsonl file: one line of JSON."""
    if multihost.is_first():
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # A full disk cut the last line off.
                    file.write(b"\n")
            file.write(f"{_dumps(record)}\n".encode())


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes all records of a .jsonl file."""
    write_bytes(path, "".join(f"{_dumps(record)}\n" for record in records).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a .jsonl file, but for lines that a crash or a full disk cut off."""
    lines = complete_lines(path)
    records = parse_lines(lines)
    if len(records) < len(lines):
        dropped = len(lines) - len(records)
        log.warning("warning: %d of %d lines of %s are damaged", dropped, len(lines), path)
    return records


def complete_lines(path: Path) -> list[str]:
    """Returns the lines of a text that have an end; none without a file."""
    return path.read_text(errors="replace").split("\n")[:-1] if path.exists() else []


def parse_lines(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the records of lines of JSON; damaged lines are left out."""
    records = []
    for line in lines:
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the content as it is."""
    write_with(path, lambda temporary: temporary.write_bytes(content))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes RGB pixels, uint8 [height, width, 3], as PNG."""
    write_with(path, Image.fromarray(picture).save)


def read_png(path: Path) -> np.ndarray:
    """Returns the RGB pixels of a PNG file, uint8 [height, width, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def write_gif(
    path: Path, frames: Sequence[np.ndarray], seconds: float = 6.0, pause: float = 1.5
) -> None:
    """Writes RGB frames, uint8 [height, width, 3], as an endless animation.

    Frames of more than `MAX_GIF_SIDE` pixels a side are written at a fraction of their size.

    Args:
        path: of the file.
        frames: one or more.
        seconds: how long one round takes, about; a frame is shown for at least 40 ms.
        pause: how many seconds longer the last frame is shown.
    """
    stride = -(-max(frames[0].shape[:2]) // MAX_GIF_SIDE)
    first, *others = (Image.fromarray(frame[::stride, ::stride]) for frame in frames)
    duration = max(40, int(1000 * seconds / len(frames)))
    durations = [duration] * len(others) + [duration + int(1000 * pause)]
    options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0}
    write_with(path, lambda temporary: first.save(temporary, **options))


def write_with(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file by a function of the path of a temporary file, which is then renamed."""
    if not multihost.is_first():
        return
    # A symbolic link stays, and its target is replaced.
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Removes files that killed processes were writing in a folder and its subfolders."""
    if multihost.is_first():
        for path in folder.rglob(".*"):
            match = re.fullmatch(r"\..+\.(\d+)\.[a-z]+", path.name)
            if match and path.is_file() and not _is_running(int(match[1])):
                path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _dumps(value: Any, indent: int | None = None) -> str:
    # NaN and Infinity, which json writes by default, are not JSON: other readers reject them.
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(finite, indent=indent)
