"""Plots have their parts in the right places, and the same pixels every time."""

import numpy as np
import pytest

from gaxn.io import plots


def _images(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("height, width, scale", [(64, 64, 1), (32, 32, 2), (16, 24, 4)])
def test_the_grid_places_each_image(height, width, scale):
    images = _images(2, 3, height, width, 3)
    picture = plots.grid(images, gap=2)
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


def test_the_grid_makes_gray_images_rgb():
    images = _images(1, 2, 64, 64, 1)
    picture = plots.grid(images)
    assert picture.shape[-1] == 3
    np.testing.assert_array_equal(picture[2:66, 68:132], images[0, 1].repeat(3, axis=-1))


def test_the_gap_can_be_left_out():
    images = _images(1, 2, 64, 64, 3)
    np.testing.assert_array_equal(plots.grid(images, gap=0), np.hstack(images[0]))


HISTORY = [{"step": step, "d/real": step / 10, "g/fake": -step} for step in range(5)]
COUNTS = np.array([[7, 1, 0], [2, 5, 0], [0, 0, 0]])
WEIGHTS = np.random.default_rng(1).uniform(size=(2, 1, 4, 4))

FIGURES = {
    "curves": lambda: plots.curves(HISTORY, {"Logits": ["d/real"], "Losses": ["g/fake"]}),
    "confusion": lambda: plots.confusion(COUNTS, ("square", "circle", "triangle")),
    "attention": lambda: plots.attention(_images(2, 8, 8, 3), WEIGHTS, [(0.5, 0.5)], "Layer"),
    "gray attention": lambda: plots.attention(_images(2, 8, 8, 1), WEIGHTS, [(0.5, 0.5)], "Layer"),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_rgb_and_the_same_every_time(figure):
    picture = FIGURES[figure]()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3 and picture.shape[-1] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    np.testing.assert_array_equal(picture, FIGURES[figure]())


def test_curves_leave_out_what_was_never_logged():
    without = plots.curves(HISTORY, {"Logits": ["d/real"]})
    np.testing.assert_array_equal(plots.curves(HISTORY, {"Logits": ["d/real", "d/never"]}), without)
    assert (plots.curves(HISTORY, {"Logits": ["d/never"]}) != without).any()


def test_curves_take_a_scalar_of_some_records():
    sparse = [*HISTORY, {"step": 5, "eval/frechet": 1.0}]
    picture = plots.curves(sparse, {"Distance": ["eval/frechet"], "Logits": ["d/real"]})
    full = plots.curves(HISTORY, {"Distance": ["eval/frechet"], "Logits": ["d/real"]})
    assert picture.shape == full.shape
    assert (picture != full).any()


def _bounds(mask):
    """Returns the first and last row and column of a mask."""
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_rows_of_the_confusion_are_the_requested_classes():
    picture = plots.confusion(np.array([[0, 9], [0, 4]]), ("a", "b"))
    full = (picture == (8, 48, 107)).all(axis=-1)
    top, bottom, left, right = _bounds(full)
    # Every prediction is "b": the right column is full, two cells tall and one wide.
    np.testing.assert_allclose((bottom - top + 1) / (right - left + 1), 2, atol=0.1)
    assert (left + right) / 2 > picture.shape[1] / 2


def _attention(weights, query):
    black = np.zeros((1, 8, 8, 3), np.uint8)
    return plots.attention(black, weights[None, None], [query], "").astype(int)


@pytest.mark.parametrize("classes", [21, 100, 1_000])
def test_the_confusion_of_many_classes_has_bounded_sides(classes):
    names = [f"class {label} of a very long name, {'x' * 300}" for label in range(classes)]
    picture = plots.confusion(np.eye(classes, dtype=int), names)
    assert picture.shape == (2_000, 2_000, 3)
    # The diagonal is dark, and the rest is light.
    assert (picture.mean(axis=-1) < 100).mean() < 0.2 and picture.std() > 0


def test_the_cross_is_at_the_query():
    flat = np.ones((4, 4))
    centers = {}
    for query in [(0.25, 0.75), (0.75, 0.75), (0.25, 0.25)]:
        red, green, blue = np.moveaxis(_attention(flat, query), -1, 0)
        top, bottom, left, right = _bounds((red < 40) & (green > 200) & (blue > 200))
        centers[query] = np.array([(top + bottom) / 2, (left + right) / 2])
    down = centers[0.75, 0.75] - centers[0.25, 0.75]
    leftward = centers[0.25, 0.25] - centers[0.25, 0.75]
    # Markers are snapped to whole pixels.
    assert down[0] > 20 and abs(down[1]) <= 1
    assert leftward[1] < -20 and abs(leftward[0]) <= 1


def test_the_heat_is_where_the_weight_is():
    top_left, bottom_left = np.zeros((2, 4, 4))
    top_left[0, 0] = bottom_left[3, 0] = 0.2
    change = (_attention(bottom_left, (0.5, 0.5)) - _attention(top_left, (0.5, 0.5))).sum(axis=-1)
    above, below = _bounds(change < -100), _bounds(change > 100)
    assert above[1] < below[0]
    np.testing.assert_allclose(above[2:], below[2:], atol=2)
    # Each map has its own scale: half the weight, the same picture.
    np.testing.assert_array_equal(
        _attention(top_left, (0.5, 0.5)), _attention(top_left / 2, (0.5, 0.5))
    )


def _curves(**histories):
    return plots.compare_curves(histories, ["g/loss"], ["step", "minutes trained"])


def test_every_run_is_a_line_and_a_name():
    timed = [
        {"step": step, "g/loss": step / 2, "minutes trained": step / 10} for step in (2, 4, 6, 8)
    ]
    twice = [{**row, "g/loss": 2 * row["g/loss"]} for row in timed]
    blue, orange = (31, 119, 180), (255, 127, 14)

    def drawn(picture, color):
        """Returns whether each half has pixels near a color, below the legend."""
        body = picture[60:].astype(int)
        near = (abs(body - color) < 70).all(axis=-1)
        return [half.any() for half in np.array_split(near, 2, axis=1)]

    both = _curves(one=timed, two=twice)
    assert drawn(both, blue) == drawn(both, orange) == [True, True]
    assert drawn(_curves(one=timed), orange) == [False, False]
    never = [{"step": 2, "minutes trained": 1.0}]
    assert drawn(_curves(one=timed, two=never), orange) == [False, False]
    np.testing.assert_array_equal(both, _curves(one=timed, two=twice))


def test_pictures_are_side_by_side_without_scaling():
    images = np.random.default_rng(0).integers(0, 200, (2, 50, 90, 3), np.uint8)
    first, second = images[0], images[1, :30, :70]
    picture = plots.side_by_side({"one": first, "a long title": second}, gap=10, title_height=40)
    # The second column is as wide as its title: 8 pixels per letter.
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
    return plots.HeatMap(np.asarray(weights), names, names, "", frame)


def _middle(mask):
    top, bottom, left, right = _bounds(mask)
    return np.array([top + bottom, left + right]) / 2


def test_rows_of_a_heat_map_are_queries():
    white = plots.heat_maps([[_map(np.full((3, 3), 1e-9)), _map(np.eye(3))]], "").astype(int)

    def place(row, column):
        weights = np.full((3, 3), 1e-9)
        weights[row, column] = 1
        picture = plots.heat_maps([[_map(weights), _map(np.eye(3))]], "").astype(int)
        return _middle(white.sum(axis=-1) - picture.sum(axis=-1) > 200)

    corner, right, below = place(0, 0), place(0, 2), place(2, 0)
    assert right[1] - corner[1] > 40 and abs(right[0] - corner[0]) <= 1
    assert below[0] - corner[0] > 40 and abs(below[1] - corner[1]) <= 1
    np.testing.assert_allclose(right[1] - corner[1], below[0] - corner[0], atol=1)


def test_heat_maps_share_one_scale():
    def darkest(*tops):
        """Counts pixels in the color of the largest weight, in the left and the right map."""
        maps = [[_map(np.diag((top, 0, 0))) for top in tops]]
        dark = (plots.heat_maps(maps, "") == (8, 48, 107)).all(axis=-1)
        # The color bar, to the right of both, has some as well.
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
        red, green, blue = np.moveaxis(plots.heat_maps(maps, "").astype(int), -1, 0)
        return (red > 180) & (green < 60) & (blue < 100)

    assert not red(None).any()
    down = _middle(red((2, 1))) - _middle(red((0, 1)))
    assert down[0] > 40 and abs(down[1]) <= 1
