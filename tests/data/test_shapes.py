"""Shapes: a pure function of (seed, index), drawn at the position and size of their scenes."""

import colorsys
import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.stats

from gaxn import data
from gaxn.data.shapes import CLASSES, LINE, STYLES, Source
from gaxn.types import InputError


@functools.cache
def _drawer(source):
    return data.make_reader(source)


def _draw(source, indices):
    return jax.device_get(_drawer(source)(np.asarray(indices)))


@functools.cache
def _drawn_scenes(source):
    scenes = jax.device_get(jax.jit(source.scenes)(np.arange(3000)))
    return type(scenes)(*(np.asarray(field, np.float64) for field in scenes))


def _scenes(source, count):
    return _take(_drawn_scenes(source), slice(count))


def _take(scenes, index):
    return type(scenes)(*(field[index] for field in scenes))


@pytest.fixture(scope="module")
def plain():
    """Returns the first 500 training images and their labels."""
    return _draw(Source(), np.arange(500))


def test_an_image_depends_on_its_index_alone():
    source = Source(size=16, background="random", texture=0.2, noise=0.1)
    images, labels = _draw(source, np.arange(60))
    order = np.random.default_rng(0).permutation(60)
    for indices in (order, order[:6].reshape(2, 3)):
        batch = _draw(source, indices)
        np.testing.assert_array_equal(batch.images, images[indices])
        np.testing.assert_array_equal(batch.labels, labels[indices])


def test_the_number_of_examples_does_not_change_them():
    few, many = (_scenes(Source(examples=examples), 500) for examples in (500, 50_000))
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_types_are_those_of_a_batch(plain):
    assert plain.images.shape == (500, 32, 32, 3)
    assert plain.images.dtype == np.uint8
    assert plain.labels.shape == (500,)
    assert plain.labels.dtype == np.int32


@pytest.mark.parametrize("options", [{"seed": 1}, {"split": "test"}])
def test_seeds_and_splits_share_no_image(plain, options):
    images, _ = _draw(Source(**options), np.arange(500))
    both = {image.tobytes() for image in [*plain.images, *images]}
    assert len(both) == 1000


def test_the_test_split_has_a_fixed_size():
    assert len(Source(examples=123)) == 123
    assert len(Source(split="test", examples=123)) == 10_000


def test_distributions_are_those_of_the_documentation():
    scenes = _scenes(Source(), 3000)
    assert scipy.stats.chisquare(np.bincount(scenes.label.astype(int), minlength=3)).pvalue > 1e-6
    hsv = np.array([colorsys.rgb_to_hsv(*color) for color in scenes.color])
    for sample, low, high in [
        (hsv[:, 0], 0, 1),
        (hsv[:, 1], 0.5, 1),
        (hsv[:, 2], 0.6, 1),
        (scenes.radius, 0.22, 0.30),
        (scenes.angle, 0, 2 * np.pi),
    ]:
        assert scipy.stats.kstest(sample, "uniform", (low, high - low)).pvalue > 1e-6
    room = 0.5 - _reach(scenes)
    for place in scenes.center.T:
        sample = (place - 0.5) / room
        assert scipy.stats.kstest(sample, "uniform", (-1, 2)).pvalue > 1e-6


def _sides(scenes):
    """Returns the sides of a square and of a triangle of the circle's area."""
    area = np.pi * scenes.radius**2
    return np.sqrt(area), np.sqrt(4 * area / np.sqrt(3))


def _reach(scenes):
    """Returns the largest distance of each shape's edge from its center."""
    square, triangle = _sides(scenes)
    return np.choose(
        scenes.label.astype(int), [square / np.sqrt(2), scenes.radius, triangle / np.sqrt(3)]
    )


def _coverage(images, scenes):
    """Returns the share of each pixel in the shape, computed from the two stored colors."""
    color, background = (np.round(255 * c) / 255 for c in (scenes.color, scenes.background))
    contrast = color - background
    mix = images / 255 - background[:, None, None]
    return np.einsum("bhwc,bc->bhw", mix, contrast) / (contrast**2).sum(1)[:, None, None]


def _exact_coverage(scene, size, fine=8):
    """Returns the share of `fine` x `fine` points of each pixel that are inside the shape."""
    points = (np.arange(size * fine) + 0.5) / (size * fine)
    y, x = np.meshgrid(points - scene.center[0], points - scene.center[1], indexing="ij")
    if CLASSES[int(scene.label)] == "circle":
        inside = np.hypot(x, y) < scene.radius
    else:
        square, triangle = _sides(scene)
        corners, inner = {
            "square": (4, square / 2),
            "triangle": (3, triangle / np.sqrt(12)),
        }[CLASSES[int(scene.label)]]
        inside = np.ones_like(x, bool)
        for corner in range(corners):
            outward = scene.angle - np.pi / 2 + 2 * np.pi * corner / corners
            inside &= x * np.cos(outward) + y * np.sin(outward) < inner
    return inside.reshape(size, fine, size, fine).mean(axis=(1, 3))


def test_area_and_center_are_those_of_the_scene(plain):
    scenes = _scenes(Source(), 500)
    coverage = _coverage(plain.images, scenes)
    np.testing.assert_array_equal(scenes.label, plain.labels)
    area = coverage.sum(axis=(1, 2)) / 32**2 / (np.pi * scenes.radius**2)
    # Blending by distance is inexact at corners; radii are 7 pixels or more.
    np.testing.assert_allclose(area, 1, atol=0.015)
    by_class = [area[plain.labels == label].mean() for label in range(3)]
    np.testing.assert_allclose(by_class, 1, atol=0.003)
    pixel = (np.arange(32) + 0.5) / 32
    total = coverage.sum(axis=(1, 2))
    y = (coverage.sum(axis=2) @ pixel) / total
    x = (coverage.sum(axis=1) @ pixel) / total
    # A tenth of a pixel, again for the corners; half a pixel would be a shifted grid.
    np.testing.assert_allclose(np.stack([y, x], axis=1), scenes.center, atol=0.1 / 32)


def test_the_image_shows_the_shape_of_its_label(plain):
    scenes = _scenes(Source(), 60)
    coverage = _coverage(plain.images[:60], scenes)
    assert set(plain.labels[:60]) == {0, 1, 2}
    for index in range(60):
        error = np.abs(coverage[index] - _exact_coverage(_take(scenes, index), 32))
        # An edge blended by distance is wrong by up to a third at a triangle's corner.
        assert error.max() < 0.35
        assert error.mean() < 0.005


def test_shapes_are_fully_inside_the_frame(plain):
    scenes = _scenes(Source(), 500)
    reach = _reach(scenes)[:, None]
    assert (scenes.center - reach > -1e-6).all() and (scenes.center + reach < 1 + 1e-6).all()
    border = np.ones((32, 32), bool)
    border[1:-1, 1:-1] = False
    background = np.round(255 * scenes.background).astype(int)[:, None]
    excess = np.abs(plain.images[:, border].astype(int) - background)
    # More than a pixel from the frame, not even a blended edge reaches the border.
    far = (np.abs(scenes.center - 0.5) + reach < 0.5 - 1.5 / 32).all(axis=1)
    assert far.sum() > 200
    assert not excess[far].any()


def test_random_backgrounds_contrast_with_the_shape():
    scenes = _scenes(Source(background="random"), 2000)
    luminance = np.array([0.2126, 0.7152, 0.0722])
    difference = (scenes.background - scenes.color) @ luminance
    # Float32 rounding of luminances up to 1.
    assert np.abs(difference).min() >= 0.25 - 1e-5
    assert np.abs(difference).min() < 0.26
    assert (difference > 0).sum() > 200 and (difference < 0).sum() > 200
    for color in (scenes.color, scenes.background):
        assert color.min() >= 0 and color.max() <= 1 + 1e-6
    assert len(np.unique(scenes.background, axis=0)) == 2000


@pytest.mark.parametrize("options", [{"texture": 0.3}, {"noise": 0.1}, {"background": "random"}])
def test_disturbances_change_pixels_but_no_label(plain, options):
    images, labels = _draw(Source(**options), np.arange(100))
    assert (images != plain.images[:100]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(labels, plain.labels[:100])


def test_the_noise_has_its_standard_deviation(plain):
    images, _ = _draw(Source(noise=0.1), np.arange(100))
    clean = plain.images[:100].astype(int)
    middling = (clean > 0.45 * 255) & (clean < 0.55 * 255)
    residual = (images - clean)[middling] / 255
    assert residual.size > 1000
    # The standard error is 2 % or less for 1,000 values or more.
    np.testing.assert_allclose(residual.std(), 0.1, rtol=0.05)
    np.testing.assert_allclose(residual.mean(), 0, atol=0.01)


def test_the_texture_has_its_amplitude(plain):
    images, _ = _draw(Source(texture=0.3), np.arange(100))
    clean = plain.images[:100].astype(int)
    middling = (clean > 100) & (clean < 180)
    ratio = images[middling] / clean[middling]
    # Levels of 1/255 on values of 100 and more.
    assert 0.69 < ratio.min() < 0.71
    assert 1.29 < ratio.max() < 1.31


def test_a_larger_image_shows_the_same_scene(plain):
    source = Source(size=64)
    images, labels = _draw(source, np.arange(50))
    assert images.shape == (50, *source.image_shape) == (50, 64, 64, 3)
    np.testing.assert_array_equal(labels, plain.labels[:50])
    halved = images.reshape(50, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    # Edges are blended over half the width, so they differ by up to a third of the range.
    error = np.abs(halved - plain.images[:50])
    assert error.max() < 90 and error.mean() < 1


@pytest.mark.parametrize(
    "field, value",
    [
        ("split", "validation"),
        ("background", "white"),
        ("examples", 0),
        ("size", 15),
        ("texture", -0.1),
        ("texture", 0.6),
        ("noise", 0.6),
        ("noise", float("nan")),
    ],
)
def test_fields_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field} must be .*, got {value!r}"):
        Source(**{field: value})


def test_styles_show_the_same_scenes_in_the_test_split_and_none_in_training():
    warm, cool = (
        {split: Source(split, style=s) for split in ("train", "test")} for s in STYLES[1:]
    )
    geometry = ("label", "center", "radius", "angle")
    for field in geometry:
        a, b = (getattr(_scenes(source["test"], 300), field) for source in (warm, cool))
        np.testing.assert_array_equal(a, b)
    centers = [
        {tuple(center) for center in _scenes(source, 3000).center.round(6)}
        for source in (warm["train"], cool["train"], warm["test"])
    ]
    assert all(not a & b for a, b in itertools.combinations(centers, 2))


@pytest.mark.parametrize("style", ["warm", "cool"])
def test_the_color_in_a_style_determines_the_class(style):
    scenes = _scenes(Source("test", style=style), 3000)
    hues = np.array([colorsys.rgb_to_hsv(*color)[0] for color in scenes.color])
    degrees = (360 * hues - (180 if style == "cool" else 0)) % 360
    for label in range(3):
        hues = degrees[scenes.label == label] - 20 * label
        assert hues.min() >= -0.01 and hues.max() <= 20.01
        assert scipy.stats.kstest(hues / 20, "uniform").pvalue > 1e-3
    light = style == "cool"
    assert ((scenes.background > 0.5) == light).all()


def test_hues_of_the_two_styles_differ_by_180_degrees():
    warm, cool = (_scenes(Source("test", style=style), 200) for style in ("warm", "cool"))
    for colors in zip(warm.color, cool.color, strict=True):
        hues = [colorsys.rgb_to_hsv(*color)[0] for color in colors]
        np.testing.assert_allclose((hues[1] - hues[0]) % 1, 0.5, atol=1e-5)


def test_an_outline_has_its_width_and_is_within_the_filled_shape():
    size = 256
    sources = [Source("test", style=style, size=size) for style in ("warm", "cool")]
    filled, outlined = (
        np.abs(_draw(s, np.arange(40)).images.astype(float) - v).max(axis=-1) > 60
        for s, v in zip(sources, (13, 242), strict=True)
    )
    scenes = _scenes(sources[0], 40)
    assert (outlined.sum(axis=(1, 2)) < filled.sum(axis=(1, 2))).all()
    # The blended edge of one may be just out of the other's.
    assert ((outlined & ~filled).sum(axis=(1, 2)) < 0.02 * filled.sum(axis=(1, 2))).all()
    for label, corners in ((1, 0.0), (0, 4.0), (2, np.sqrt(27))):
        chosen = scenes.label == label
        # A band: its outer length times its width, minus the area counted twice at corners.
        radius = scenes.radius[chosen]
        length = {1: 2 * np.pi, 0: 4 * np.sqrt(np.pi), 2: 6 * np.sqrt(np.pi / np.sqrt(3))}[label]
        corner_area = np.pi if label == 1 else corners
        area = length * radius * LINE - corner_area * LINE**2
        np.testing.assert_allclose(outlined[chosen].mean(axis=(1, 2)), area, rtol=0.03)


def test_the_warm_style_requires_a_dark_background():
    with pytest.raises(
        InputError, match="background must be dark with the style warm, got 'random'"
    ):
        Source(style="warm", background="random")
    with pytest.raises(InputError, match="style must be plain or warm or cool, got 'hot'"):
        Source(style="hot")
    assert Source().identity == "shapes size=32 background=dark texture=0.0 noise=0.0"
