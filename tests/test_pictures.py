"""Pictures: what is where, and the same pixels every time."""

import numpy as np
import pytest

from gaxn import pictures


def _images(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("height, width, scale", [(64, 64, 1), (32, 32, 2), (16, 24, 4)])
def test_the_grid_places_each_image(height, width, scale):
    images = _images(2, 3, height, width, 3)
    picture = pictures.grid(images, gap=2)
    tall, broad = scale * height + 2, scale * width + 2
    assert picture.shape == (2 * tall + 2, 3 * broad + 2, 3)
    assert picture.dtype == np.uint8
    rest = picture.copy()
    for row, column in np.ndindex(2, 3):
        place = (
            slice(row * tall + 2, (row + 1) * tall),
            slice(column * broad + 2, (column + 1) * broad),
        )
        enlarged = np.kron(images[row, column], np.ones((scale, scale, 1), np.uint8))
        np.testing.assert_array_equal(picture[place], enlarged)
        rest[place] = 255
    assert (rest == 255).all()


def test_the_grid_makes_grey_images_rgb():
    images = _images(1, 2, 64, 64, 1)
    picture = pictures.grid(images)
    assert picture.shape[-1] == 3
    np.testing.assert_array_equal(picture[2:66, 68:132], images[0, 1].repeat(3, axis=-1))


def test_the_gap_can_be_left_out():
    images = _images(1, 2, 64, 64, 3)
    np.testing.assert_array_equal(pictures.grid(images, gap=0), np.hstack(images[0]))


HISTORY = [{"step": step, "d/real": step / 10, "g/fake": -step} for step in range(5)]
COUNTS = np.array([[7, 1, 0], [2, 5, 0], [0, 0, 0]])
WEIGHTS = np.random.default_rng(1).uniform(size=(2, 1, 4, 4))

FIGURES = {
    "curves": lambda: pictures.curves(HISTORY, {"Logits": ["d/real"], "Losses": ["g/fake"]}),
    "confusion": lambda: pictures.confusion(COUNTS, ("square", "circle", "triangle")),
    "attention": lambda: pictures.attention(_images(2, 8, 8, 3), WEIGHTS, [(0.5, 0.5)], "Layer"),
    "grey attention": lambda: pictures.attention(
        _images(2, 8, 8, 1), WEIGHTS, [(0.5, 0.5)], "Layer"
    ),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_rgb_and_the_same_every_time(figure):
    picture = FIGURES[figure]()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[-1] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    np.testing.assert_array_equal(picture, FIGURES[figure]())


def test_curves_leave_out_what_was_never_logged():
    without = pictures.curves(HISTORY, {"Logits": ["d/real"]})
    np.testing.assert_array_equal(
        pictures.curves(HISTORY, {"Logits": ["d/real", "d/never"]}), without
    )
    assert (pictures.curves(HISTORY, {"Logits": ["d/never"]}) != without).any()


def test_curves_take_a_scalar_that_was_logged_now_and_then():
    sparse = [*HISTORY, {"step": 5, "eval/frechet": 1.0}]
    picture = pictures.curves(sparse, {"Distance": ["eval/frechet"], "Logits": ["d/real"]})
    full = pictures.curves(HISTORY, {"Distance": ["eval/frechet"], "Logits": ["d/real"]})
    assert picture.shape == full.shape
    assert (picture != full).any()


def _where(mask):
    """First and last row and column of a mask."""
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_rows_of_the_confusion_are_what_was_asked_for():
    picture = pictures.confusion(np.array([[0, 9], [0, 4]]), ("a", "b"))
    full = (picture == (8, 48, 107)).all(axis=-1)
    top, bottom, left, right = _where(full)
    # Every answer was "b": the right column is full, two cells tall and one wide.
    np.testing.assert_allclose((bottom - top + 1) / (right - left + 1), 2, atol=0.1)
    assert (left + right) / 2 > picture.shape[1] / 2


def _attention(weights, query):
    black = np.zeros((1, 8, 8, 3), np.uint8)
    return pictures.attention(black, weights[None, None], [query], "").astype(int)


def test_the_cross_is_at_the_query():
    flat = np.ones((4, 4))
    centres = {}
    for query in [(0.25, 0.75), (0.75, 0.75), (0.25, 0.25)]:
        red, green, blue = np.moveaxis(_attention(flat, query), -1, 0)
        top, bottom, left, right = _where((red < 40) & (green > 200) & (blue > 200))
        centres[query] = np.array([(top + bottom) / 2, (left + right) / 2])
    down = centres[0.75, 0.75] - centres[0.25, 0.75]
    leftward = centres[0.25, 0.25] - centres[0.25, 0.75]
    # Markers are snapped to whole pixels.
    assert down[0] > 20 and abs(down[1]) <= 1
    assert leftward[1] < -20 and abs(leftward[0]) <= 1


def test_the_heat_is_where_the_weight_is():
    top_left, bottom_left = np.zeros((2, 4, 4))
    top_left[0, 0] = bottom_left[3, 0] = 0.2
    change = (_attention(bottom_left, (0.5, 0.5)) - _attention(top_left, (0.5, 0.5))).sum(axis=-1)
    above, below = _where(change < -100), _where(change > 100)
    assert above[1] < below[0]
    np.testing.assert_allclose(above[2:], below[2:], atol=2)
    # The scale is the map's own: half the weight, the same picture.
    np.testing.assert_array_equal(
        _attention(top_left, (0.5, 0.5)), _attention(top_left / 2, (0.5, 0.5))
    )
