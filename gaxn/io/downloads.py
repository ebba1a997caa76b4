"""Files that are downloaded or trained once and stored for every run, in `GAXN_CACHE`."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from gaxn.io import files
from gaxn.types import InputError

TIMEOUT = 30
"""Seconds."""

CHUNK = 1 << 16
"""Bytes; a download that is cut off loses less than one chunk."""


def directory(name: str) -> Path:
    """Returns the directory for files of one kind, in `GAXN_CACHE` or else ~/.cache/gaxn.

    Raises:
        InputError: there is neither `GAXN_CACHE` nor a home directory.
    """
    try:
        cache = os.environ.get("GAXN_CACHE")
        root = files.expand(cache) if cache else Path.home() / ".cache" / "gaxn"
    except RuntimeError:
        raise InputError(
            f"GAXN_CACHE must name a directory for {name}, since there is no home directory"
        ) from None
    return root / name


def fetch(urls: Sequence[str], path: Path, verify: Callable[[Path], str | None]) -> Path:
    """Downloads a file from the first URL that has it, unless it exists; returns its path.

    A download that was cut off is continued. A file that `verify` rejects is never at `path`. Of
    several processes of a machine one downloads, and the others wait.

    Args:
        urls: mirrors of one file, tried in order.
        path: where the file is stored.
        verify: returns the problem of a downloaded file, or None.

    Raises:
        InputError: no mirror had the file, or `verify` rejected what they had.
    """
    if path.exists():
        return path
    files.check_writable(path, "the file in GAXN_CACHE")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Not every file system has locks.
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        return path if path.exists() else _fetch(urls, path, verify)
    finally:
        os.close(folder)


def _fetch(urls: Sequence[str], path: Path, verify: Callable[[Path], str | None]) -> Path:
    part = path.with_name(path.name + ".part")
    problems = []
    for url in urls:
        continued = part.exists()
        try:
            _download(url, part)
            problem = verify(part)
            if problem and continued:
                # The first part may have been of another file.
                part.unlink()
                _download(url, part)
                problem = verify(part)
        except requests.RequestException as error:
            problems.append(f"{url} ({type(error).__name__})")
            continue
        if problem is None:
            os.replace(part, path)
            return path
        part.unlink()
        problems.append(f"{url} ({problem})")
    tried = "; ".join(problems)
    raise InputError(f"{path.name} could not be downloaded: {tried}; put it at {path}")


def _download(url: str, part: Path) -> None:
    """Appends to `part` what is missing of the file at `url`."""
    start = part.stat().st_size if part.exists() else 0
    # Without "identity" a server may compress the file once more for the transfer.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            return
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        total = start + int(response.headers.get("Content-Length", 0))
        units = {"unit": "B", "unit_scale": True}
        bar = tqdm(initial=start, total=total or None, desc=part.stem, leave=False, **units)
        with bar, part.open("ab" if start else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size < total:
        raise requests.ConnectionError(f"{url} ended early")
