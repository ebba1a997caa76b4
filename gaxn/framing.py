"""From a picture of any size and mode to the square of pixels that networks see."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from gaxn.types import InputError, require

FILTER = Image.Resampling.BICUBIC
WHITE = (255, 255, 255, 255)


def frame(
    picture: Image.Image, size: int, crop: int, channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Turned upright, made grey or RGB, cut to a centred square, then resized.

    Resizing is PIL's bicubic, which widens its filter where it shrinks (antialiasing).
    Transparent parts show white; of 16-bit values the upper 8 bits stay.

    Args:
        picture: of any mode but 32-bit floating point.
        size: height and width of the result, in pixels; 0 to leave the picture uncut.
        crop: side of the square, in pixels of the picture; 0 for the largest that fits.
        channels: 3 for RGB, 1 for grey (Rec. 601 luma).

    Raises:
        InputError: the picture is smaller than `crop`, or its mode has no known range.
    """
    picture = _coloured(ImageOps.exif_transpose(picture), channels)
    width, height = picture.size
    if not size:
        return np.asarray(picture).reshape(height, width, channels)
    side = crop or min(width, height)
    if side > min(width, height):
        raise InputError(f"it has {width}x{height} pixels, fewer than crop, {crop}")
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), FILTER)).reshape(size, size, channels)


def check(size: int, crop: int, least: int = 1) -> None:
    """Refuses a size below `least`, and a crop below 0.

    Raises:
        InputError: it does.
    """
    require("size", size, size >= least, f"{least} or more")
    require("crop", crop, crop >= 0, "0, for the largest centred square, or more")


def describe(size: int, crop: int) -> str:
    """How pictures were framed, for the identity of a data set."""
    if not size:
        return "as they are"
    return f"size={size} crop={crop} {FILTER.name.lower()}"


def _coloured(picture: Image.Image, channels: int) -> Image.Image:
    if picture.mode == "F":
        raise InputError("its pixels are of mode F, 32-bit floating point; 8 or 16 bits are valid")
    if picture.mode.startswith("I"):
        upper = np.clip(np.asarray(picture, np.int32), 0, 2**16 - 1) >> 8
        picture = Image.fromarray(upper.astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture)
    return picture.convert("RGB" if channels == 3 else "L")
