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


def _curves(**histories):
    return pictures.overlaid(histories, ["g/loss"], ["step", "minutes trained"])


def test_every_run_is_a_line_and_a_name():
    timed = [
        {"step": step, "g/loss": step / 2, "minutes trained": step / 10} for step in (2, 4, 6, 8)
    ]
    twice = [{**row, "g/loss": 2 * row["g/loss"]} for row in timed]
    blue, orange = (31, 119, 180), (255, 127, 14)

    def drawn(picture, colour):
        """Whether a half of the picture has pixels near a colour, beneath the legend."""
        body = picture[60:].astype(int)
        near = (abs(body - colour) < 70).all(axis=-1)
        return [half.any() for half in np.array_split(near, 2, axis=1)]

    both = _curves(one=timed, two=twice)
    assert drawn(both, blue) == drawn(both, orange) == [True, True]
    assert drawn(_curves(one=timed), orange) == [False, False]
    never = [{"step": 2, "minutes trained": 1.0}]
    assert drawn(_curves(one=timed, two=never), orange) == [False, False]
    np.testing.assert_array_equal(both, _curves(one=timed, two=twice))


def test_pictures_stand_side_by_side_at_their_own_pixels():
    images = np.random.default_rng(0).integers(0, 200, (2, 50, 90, 3), np.uint8)
    first, second = images[0], images[1, :30, :70]
    picture = pictures.side_by_side({"one": first, "a long title": second}, gap=10, title=40)
    # The second's column is as wide as its title: 8 pixels a letter.
    assert picture.shape == (40 + 50 + 10, 10 + 90 + 10 + 96 + 10, 3)
    np.testing.assert_array_equal(picture[40:90, 10:100], first)
    left = 110 + (96 - 70) // 2
    np.testing.assert_array_equal(picture[40:70, left : left + 70], second)
    picture[40:90, 10:100] = picture[40:70, left : left + 70] = 255
    assert (picture[40:] == 255).all()
    for column in (slice(10, 100), slice(110, 206)):
        assert (picture[:40, column] < 100).any()


def _map(weights, frame=None):
    names = ["$x$", "_", "\\"][: len(weights)]
    return pictures.HeatMap(np.asarray(weights), names, names, "", frame)


def _middle(mask):
    top, bottom, left, right = _where(mask)
    return np.array([top + bottom, left + right]) / 2


def test_rows_of_a_heat_map_are_the_words_that_look():
    white = pictures.heat_maps([[_map(np.full((3, 3), 1e-9)), _map(np.eye(3))]], "").astype(int)

    def place(row, column):
        weights = np.full((3, 3), 1e-9)
        weights[row, column] = 1
        picture = pictures.heat_maps([[_map(weights), _map(np.eye(3))]], "").astype(int)
        return _middle(white.sum(axis=-1) - picture.sum(axis=-1) > 200)

    corner, right, below = place(0, 0), place(0, 2), place(2, 0)
    assert right[1] - corner[1] > 40 and abs(right[0] - corner[0]) <= 1
    assert below[0] - corner[0] > 40 and abs(below[1] - corner[1]) <= 1
    np.testing.assert_allclose(right[1] - corner[1], below[0] - corner[0], atol=1)


def test_heat_maps_share_one_scale():
    def darkest(*tops):
        """Pixels in the colour of the largest weight, in the left map and in the right one."""
        maps = [[_map(np.diag((top, 0, 0))) for top in tops]]
        dark = (pictures.heat_maps(maps, "") == (8, 48, 107)).all(axis=-1)
        # The bar of colours has some as well, to the right of both.
        left, right, _ = np.split(dark, [dark.shape[1] // 2, int(0.88 * dark.shape[1])], axis=1)
        return np.array([left.sum(), right.sum()])

    both, one = darkest(0.4, 0.4), darkest(0.4, 0.1)
    # Edges fall between pixels.
    assert both.min() > 1_000 and abs(both[0] - both[1]) < 10
    np.testing.assert_allclose(one, [both[0], 0], atol=10)


def test_the_frame_is_around_its_cell():
    flat = np.full((3, 3), 1e-9)

    def red(frame):
        maps = [[_map(flat, frame), _map(np.eye(3))]]
        red, green, blue = np.moveaxis(pictures.heat_maps(maps, "").astype(int), -1, 0)
        return (red > 180) & (green < 60) & (blue < 100)

    assert not red(None).any()
    down = _middle(red((2, 1))) - _middle(red((0, 1)))
    assert down[0] > 40 and abs(down[1]) <= 1
