"""Pictures of a report: each as lossless WebP, or PNG if that is smaller, and each once."""

import base64
import hashlib
import io
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gaxn.io import files

MAX_SIDE = 1_600
"""Pixels of the longer side of a picture; a larger one is made smaller."""

MAX_ANIMATION_BYTES = 600_000
"""Bytes of an animation; a larger file is written anew, with loss."""

ENLARGEMENTS = (8, 6, 5, 4, 3, 2)
"""Factors by which a grid may have been enlarged, see `gaxn.io.plots.grid`."""


class Encoded(NamedTuple):
    """A picture as it is stored.

    Attributes:
        url: data of the picture, "data:image/...;base64,...".
        width, height: of the stored picture.
        pixelated: whether it was enlarged before, and its pixels are to be enlarged as squares.
    """

    url: str
    width: int
    height: int
    pixelated: bool = False


class Pictures:
    """The pictures of one report.

    What was encoded for an earlier report is used again: pass on `encoded`.

    Args:
        before: `encoded` of an earlier report.

    Attributes:
        data: the pictures by key.
        encoded: the same by their origin: path, time and size of a file, and the largest side.
    """

    def __init__(self, before: dict[Hashable, Encoded] | None = None):
        self.data: dict[str, str] = {}
        self.encoded: dict[Hashable, Encoded] = {}
        self._before = before or {}

    @property
    def size(self) -> int:
        """Bytes of all pictures in the report."""
        return sum(map(len, self.data.values()))

    def add(self, pixels: np.ndarray, alt: str) -> dict[str, Any]:
        """Adds pixels, uint8 [height, width, 1 or 3]; returns the entry that refers to them."""
        return self._refer(encode(pixels), alt)

    def add_file(self, path: Path, alt: str, max_side: int = MAX_SIDE) -> dict[str, Any] | None:
        """Adds a PNG file; returns the entry that refers to it, None without a readable file."""
        encoded = self.encode_file(path, max_side)
        return None if encoded is None else self._refer(encoded, alt)

    def encode_file(self, path: Path, max_side: int = MAX_SIDE) -> Encoded | None:
        """Returns a PNG file as it would be stored; None without a readable file."""
        return self._encode_once(path, lambda: encode(files.read_png(path), max_side), max_side)

    def add_animation(self, path: Path, alt: str) -> dict[str, Any] | None:
        """Adds a GIF file; returns the entry that refers to it, None without a readable file."""
        encoded = self._encode_once(path, lambda: encode_animation(path))
        return None if encoded is None else self._refer(encoded, alt)

    def _encode_once(
        self, path: Path, make: Callable[[], Encoded], max_side: int = MAX_SIDE
    ) -> Encoded | None:
        try:
            status = path.stat()
            origin = str(path), status.st_mtime_ns, status.st_size, max_side
            encoded = self.encoded.get(origin) or self._before.get(origin) or make()
        except (OSError, ValueError, SyntaxError):
            return None
        self.encoded[origin] = encoded
        return encoded

    def _refer(self, encoded: Encoded, alt: str) -> dict[str, Any]:
        key = hashlib.sha256(encoded.url.encode()).hexdigest()[:16]
        self.data[key] = encoded.url
        size = {"width": encoded.width, "height": encoded.height}
        pixelated = {"pixelated": True} if encoded.pixelated else {}
        return {"src": f"@{key}", **size, "alt": alt, **pixelated}


def encode(pixels: np.ndarray, max_side: int = MAX_SIDE) -> Encoded:
    """Returns a picture without loss, but for its size if it is larger than `max_side`.

    A picture that was enlarged by an integer is stored in its original size.
    """
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    factor = find_enlargement(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels[::factor, ::factor]))
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    # Exactly the same pixels: without `exact` those below a transparent one may change.
    webp = _save(image, "webp", lossless=True, exact=True, method=1, quality=50)
    png = _save(image, "png", optimize=False) if len(webp) < 20_000 else webp
    smaller, kind = (png, "png") if len(png) < len(webp) else (webp, "webp")
    return Encoded(_to_url(smaller, kind), *image.size, factor > 1)


def find_enlargement(pixels: np.ndarray) -> int:
    """Returns the largest factor by which every pixel is repeated along both sides; 1 for none."""
    height, width = pixels.shape[:2]
    for factor in ENLARGEMENTS:
        if height % factor == 0 and width % factor == 0:
            small = pixels[::factor, ::factor]
            if np.array_equal(small.repeat(factor, axis=0).repeat(factor, axis=1), pixels):
                return factor
    return 1


def encode_animation(path: Path) -> Encoded:
    """Returns a GIF file as it is; a large one as WebP with loss, if need be of smaller pixels."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as animation:
        width, height = animation.size
        if len(content) <= MAX_ANIMATION_BYTES:
            return Encoded(_to_url(content, "gif"), width, height)
        frames, durations = [], []
        for index in range(animation.n_frames):
            animation.seek(index)
            frames.append(animation.convert("RGB"))
            durations.append(animation.info.get("duration", 100))
    factor = 1
    while True:
        size = max(1, width // factor), max(1, height // factor)
        first, *others = (frame.resize(size, Image.Resampling.BOX) for frame in frames)
        options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0}
        webp = _save(first, "webp", quality=75, method=1, **options)
        if len(webp) <= MAX_ANIMATION_BYTES or max(size) < 64:
            return Encoded(_to_url(webp, "webp"), *size)
        factor *= 2


def thin(count: int, limit: int) -> list[int]:
    """Returns the indices of at most `limit` of `count` things: every n-th, and the last one."""
    if count <= limit:
        return list(range(count))
    if limit < 2:
        return [count - 1][:limit]
    stride = -(-(count - 1) // (limit - 1))
    return [*range(0, count - 1, stride), count - 1]


def cells(pixels: np.ndarray, rows: int, columns: int, gap: int = 2) -> Sequence[np.ndarray]:
    """Returns the images of a grid by row and column, as `gaxn.io.plots.grid` draws them.

    Returns:
        [rows, columns, height, width, 3]; an empty array if the picture is no such grid.
    """
    height, width = pixels.shape[0] - gap, pixels.shape[1] - gap
    if rows < 1 or columns < 1 or height % rows or width % columns:
        return np.zeros((0, 0, 0, 0, 3), np.uint8)
    cell_height, cell_width = height // rows, width // columns
    grid = pixels[:height, :width].reshape(rows, cell_height, columns, cell_width, 3)
    return grid.transpose(0, 2, 1, 3, 4)[:, :, gap:, gap:]


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _to_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
