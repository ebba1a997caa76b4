"""Pictures of any size go completely and correctly through networks with known outputs."""

import numpy as np
import pytest
from PIL import Image

from gaxn.evaluation.picture_sizes import (
    FITS,
    resize_shorter_side,
    translate_tiles,
    translate_whole,
)

SIDES = [(1, 1), (7, 8), (8, 8), (9, 30), (33, 18), (64, 64), (41, 100)]


def _picture(height, width, channels=3):
    random = np.random.default_rng(height * width)
    return random.integers(0, 256, (height, width, channels)).astype(np.uint8)


def _negative(multiple):
    def translate(images):
        assert (
            not any(side % multiple for side in images.shape[1:3]) and min(images.shape[1:3]) >= 8
        )
        return 255 - images

    return translate


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(("height", "width"), SIDES)
def test_every_pixel_is_translated_once(name, height, width, multiple):
    fit = FITS[name]
    prepared = fit.prepare(_picture(height, width), 16)
    if name != "resize":
        np.testing.assert_array_equal(prepared, _picture(height, width))
    translation = fit.apply(_negative(multiple), prepared, 16, multiple)
    np.testing.assert_array_equal(translation, 255 - prepared)


def test_the_sides_are_padded_by_reflection():
    image = _picture(9, 30)
    inputs = []
    translate_whole(lambda images: inputs.append(images) or images, image, 16, 4)
    np.testing.assert_array_equal(inputs[0][0], np.pad(image, ((0, 3), (0, 2), (0, 0)), "reflect"))


def test_tiles_are_blended_without_a_step():
    """Two tiles of 16 in a width of 24, one translated to 0 and one to 240: a line between."""
    shades = iter((0, 240))

    def shade(images):
        return np.stack([np.full(image.shape, next(shades), np.uint8) for image in images])

    row = translate_tiles(shade, _picture(16, 24), 16, 4)[8, :, 0].astype(float)
    np.testing.assert_array_equal(row[:8], 0)
    np.testing.assert_array_equal(row[16:], 240)
    # Weights fall from 7.5 to 0.5 in the one, and rise in the other.
    rising = np.arange(8) + 0.5
    np.testing.assert_allclose(row[8:16], 240 * rising / 8, atol=0.5)


def test_many_tiles_are_translated_a_few_at_a_time_and_cover_all():
    counts = []
    translate_tiles(lambda images: counts.append(len(images)) or images, _picture(100, 100), 16, 4)
    assert max(counts) <= 8 and sum(counts) == 12**2


@pytest.mark.parametrize("channels", [1, 3])
def test_the_shorter_side_is_resized_as_pil_does(channels):
    image = _picture(30, 61, channels)
    resized = resize_shorter_side(image, 16)
    assert resized.shape == (16, 33, channels)
    for channel in range(channels):
        expected = Image.fromarray(image[..., channel]).resize((33, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resized[..., channel], expected)
