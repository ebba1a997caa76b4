"""What is fetched or trained once and kept for every run: `GAXN_CACHE`, or ~/.cache/gaxn."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from gaxn.types import InputError

TIMEOUT, CHUNK = 30, 1 << 16
"""Seconds, bytes: what is lost of a download that is cut off is less than one chunk."""


def directory(name: str) -> Path:
    """Where things of one kind are kept."""
    root = os.environ.get("GAXN_CACHE") or Path.home() / ".cache" / "gaxn"
    return Path(root) / name


def fetch(urls: Sequence[str], path: Path, verify: Callable[[Path], str | None]) -> Path:
    """The file at `path`, downloaded from the first URL that gives it if it is not there.

    A download that was cut off goes on where it ended. Nothing is ever at `path` that
    `verify` found wrong.

    Args:
        urls: mirrors of one file, tried in order.
        path: where it is kept.
        verify: what is wrong with a downloaded file, or None.

    Raises:
        InputError: no mirror gave the file, or what they gave is wrong.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    problems = []
    for url in urls:
        went_on = part.exists()
        try:
            _download(url, part)
            problem = verify(part)
            if problem and went_on:
                # What was there may have been of another file.
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
    raise InputError(
        f"{path.name} could not be downloaded: {'; '.join(problems)}; put it at {path}"
    )


def _download(url: str, part: Path) -> None:
    """Adds to `part` what it lacks of the file at `url`."""
    there = part.stat().st_size if part.exists() else 0
    # A compressed file that is sent as a compressed page would arrive decompressed.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if there and response.status_code == requests.codes.requested_range_not_satisfiable:
            return
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        start = there if goes_on else 0
        total = start + int(response.headers.get("Content-Length", 0))
        bar = tqdm(
            initial=start,
            total=total or None,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            leave=False,
        )
        with bar, part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size < total:
        raise requests.ConnectionError(f"{url} ended early")
