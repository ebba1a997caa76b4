"""Preparation of images: any size and mode to the square of uint8 pixels that networks take."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gaxn.types import InputError, check

FILTER = Image.Resampling.BICUBIC
WHITE = (255, 255, 255, 255)


def prepare(
    image: Image.Image, size: int, crop: int, channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Converts an image to gray or RGB on white, crops its center and resizes it.

    PIL's bicubic filter widens when it shrinks an image (antialiasing).

    Args:
        image: of any mode with 8 bits a value.
        size: height and width of the result, in pixels; 0 to neither crop nor resize.
        crop: side of the centered square, in pixels of the image; 0 for the largest one.
        channels: 3 for RGB, 1 for gray (Rec. 601 luma).

    Raises:
        InputError: the image is smaller than `crop`.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    image = image.convert("RGB" if channels == 3 else "L")
    width, height = image.size
    if not size:
        return np.asarray(image).reshape(height, width, channels)
    side = crop or min(width, height)
    if side > min(width, height):
        raise InputError(f"it has {width}x{height} pixels, fewer than crop, {crop}")
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), FILTER)).reshape(size, size, channels)


def check_sizes(size: int, crop: int) -> None:
    """Raises an InputError if the size or the crop is below 0."""
    check("size", size, size >= 0, "0 or more")
    check("crop", crop, crop >= 0, "0 (for the largest centered square) or more")


def describe(size: int, crop: int) -> str:
    """Returns the preparation as text, for the identity of a data set."""
    if not size:
        return "as they are"
    return f"size={size} crop={crop} {FILTER.name.lower()}"
