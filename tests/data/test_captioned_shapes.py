"""Captioned shapes: pixels agree with every word, and training lacks the held-out pairs."""

import collections
import colorsys
import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.stats

from gaxn import data
from gaxn.data.captioned_shapes import GRAMMAR, TEMPLATES, WORDS, Source, parse
from gaxn.types import InputError

COUNT = 600
SIZE = 32


@functools.cache
def _drawer(source):
    return data.make_reader(source)


def _draw(source, indices):
    return jax.device_get(_drawer(source)(np.asarray(indices)))


@functools.cache
def _attributes(source):
    return jax.device_get(jax.jit(source.attributes)(np.arange(len(source))))


def _named(source, index):
    """Returns the words of an image by attribute."""
    return {name: WORDS[name][words[index]] for name, words in _attributes(source).items()}


@pytest.fixture(scope="module")
def examples():
    """Returns the test split, its first images and their labels."""
    source = Source("test")
    return source, *_draw(source, np.arange(COUNT))


def _measure(image):
    """Returns color (RGB), coverage of each pixel, area, and center (y, x), from pixels alone."""
    image = image / 255
    background = np.median([*image[0], *image[-1], *image[:, 0], *image[:, -1]], axis=0)
    contrast = image - background
    distance = np.linalg.norm(contrast, axis=-1)
    color = image[np.unravel_index(distance.argmax(), distance.shape)]
    coverage = contrast @ (color - background) / ((color - background) ** 2).sum()
    area = coverage.sum()
    pixel = np.arange(SIZE) + 0.5
    center = coverage.sum(axis=1) @ pixel / area, coverage.sum(axis=0) @ pixel / area
    return color, coverage, area / SIZE**2, np.array(center) / SIZE


def _symmetry(coverage, center, order):
    """Returns |sum c z^n| / sum c |z|^n of complex positions z about the center."""
    y, x = (np.arange(SIZE) + 0.5 - SIZE * place for place in center)
    position = x + 1j * y[:, None]
    weights = coverage * np.abs(position) ** order
    return np.abs((coverage * position**order).sum()) / weights.sum()


def test_pixels_agree_with_every_word(examples):
    source, images, labels = examples
    hues = {"red": 0, "orange": 32, "yellow": 60, "green": 120}
    hues |= {"cyan": 180, "blue": 230, "purple": 275, "pink": 328}
    for index, image in enumerate(images):
        words = _named(source, index)
        color, coverage, area, center = _measure(image)
        degrees = 360 * colorsys.rgb_to_hsv(*color)[0]
        nearest = min(hues, key=lambda name: abs((degrees - hues[name] + 180) % 360 - 180))
        # Halfway between the radii of two words.
        radius = np.sqrt(area / np.pi)
        size = ("small", "medium", "large")[np.searchsorted([0.135, 0.18], radius)]
        row, column = np.searchsorted([0.4, 0.6], center)
        place = f"{('top', '', 'bottom')[row]} {('left', '', 'right')[column]}".strip() or "center"
        # Third moments vanish for squares and circles, fourth moments for circles.
        is_triangle = _symmetry(coverage, center, 3) > 0.2
        is_square = not is_triangle and _symmetry(coverage, center, 4) > 0.2
        shape = "triangle" if is_triangle else "square" if is_square else "circle"
        measured = {"size": size, "color": nearest, "shape": shape, "place": place}
        assert measured == words, source.captions[index]
        assert words["shape"] == source.class_names[labels[index]]


def test_shapes_are_fully_inside_the_frame(examples):
    source, images, _ = examples
    scenes = jax.device_get(jax.jit(source.scenes)(np.arange(COUNT)))
    corners = np.array([np.sqrt(np.pi / 2), 1, np.sqrt(4 * np.pi / np.sqrt(27))])[scenes.label]
    reach = (scenes.radius * corners)[:, None]
    assert (scenes.center - reach > -1e-6).all() and (scenes.center + reach < 1 + 1e-6).all()
    areas = np.array([_measure(image)[2] for image in images])
    # A shape that were cut off would have lost area.
    np.testing.assert_allclose(areas / (np.pi * scenes.radius**2), 1, atol=0.04)


def test_backgrounds_are_dark_or_light(examples):
    _, images, _ = examples
    tones = collections.Counter(tuple(np.median(image, axis=(0, 1))) for image in images)
    assert tones.keys() == {(13, 13, 13), (242, 242, 242)}
    assert scipy.stats.binomtest(min(tones.values()), COUNT).pvalue > 1e-6


def test_every_caption_names_the_words_of_its_image():
    for source in (Source("test"), Source(examples=3_000, seed=1)):
        assert len(source.captions) == len(source)
        for index, caption in enumerate(source.captions):
            assert parse(caption) == _named(source, index)


def test_words_phrases_and_templates_are_equally_frequent():
    source = Source(examples=20_000, held_out=0)
    for name, words in _attributes(source).items():
        _assert_uniform(np.bincount(words, minlength=len(WORDS[name])))
    pairs = _attributes(source)["color"] * 3 + _attributes(source)["shape"]
    _assert_uniform(np.bincount(pairs, minlength=24))
    for name, words in GRAMMAR.items():
        for word, phrases in enumerate(words.values()):
            captions = np.array(source.captions)[_attributes(source)[name] == word]
            uses = [[f" {phrase} " in f" {text} " for phrase in phrases] for text in captions]
            assert (np.sum(uses, axis=1) == 1).all()
            _assert_uniform(np.sum(uses, axis=0))
    kinds = [2 * (" that is " in text) + (" there is " in text) for text in source.captions]
    _assert_uniform(np.bincount(kinds, minlength=len(TEMPLATES)))


def _assert_uniform(counts):
    assert scipy.stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_training_lacks_the_held_out_pairs_and_no_word(seed):
    source = Source(examples=4_000, seed=seed)
    pairs = set(source.held_out_pairs)
    assert len(pairs) == 3
    colors, forms = zip(*(pair.split() for pair in pairs), strict=True)
    assert len(set(colors)) == len(set(forms)) == 3
    drawn = {
        f"{_named(source, index)['color']} {_named(source, index)['shape']}"
        for index in range(len(source))
    }
    every = {" ".join(pair) for pair in itertools.product(WORDS["color"], WORDS["shape"])}
    assert drawn == every - pairs
    assert not np.asarray(source.is_held_out(np.arange(len(source)))).any()


def test_the_test_split_has_the_held_out_pairs_as_often_as_others():
    source = Source("test")
    assert source.held_out_pairs == Source().held_out_pairs
    is_held_out = np.asarray(source.is_held_out(np.arange(len(source))))
    truth = [
        f"{_named(source, index)['color']} {_named(source, index)['shape']}"
        in source.held_out_pairs
        for index in range(len(source))
    ]
    np.testing.assert_array_equal(is_held_out, truth)
    assert scipy.stats.binomtest(int(is_held_out.sum()), len(source), 3 / 24).pvalue > 1e-6


def test_seeds_hold_out_different_pairs_and_the_identity_names_them():
    identities = {Source(seed=seed).identity for seed in range(8)}
    assert len(identities) >= 7
    source = Source(held_out=2)
    first, second = source.held_out_pairs
    assert source.identity == f"captioned shapes size=32 without {first}, {second}"
    assert source.complete.identity == "captioned shapes size=32"
    assert source.complete.held_out_pairs == ()
    most = Source(held_out=8).held_out_pairs
    assert {pair.split()[0] for pair in most} == set(WORDS["color"])
    assert {pair.split()[1] for pair in most} == set(WORDS["shape"])


def test_what_is_held_out_does_not_change_the_test_split(examples):
    source, images, _ = examples
    np.testing.assert_array_equal(_draw(source.complete, np.arange(COUNT)).images, images)
    assert source.complete.captions == source.captions
    assert not np.asarray(source.complete.is_held_out(np.arange(COUNT))).any()


def test_an_example_depends_on_its_index_alone(examples):
    source, images, labels = examples
    order = np.random.default_rng(0).permutation(COUNT)
    for indices in (order, order[:6].reshape(2, 3)):
        batch = _draw(source, indices)
        np.testing.assert_array_equal(batch.images, images[indices])
        np.testing.assert_array_equal(batch.labels, labels[indices])
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    few, many = Source(examples=40), Source(examples=400)
    assert many.captions[:40] == few.captions
    np.testing.assert_array_equal(
        _draw(few, np.arange(40)).images, _draw(many, np.arange(40)).images
    )


def test_splits_and_seeds_share_no_image(examples):
    sets = [examples[1], *(_draw(Source(seed=seed), np.arange(COUNT)).images for seed in (0, 1))]
    assert len({image.tobytes() for images in sets for image in images}) == 3 * COUNT


def test_the_test_split_has_a_fixed_size():
    assert len(Source(examples=123)) == len(Source(examples=123).captions) == 123
    assert len(Source("test", examples=123)) == 2_000


def test_a_larger_image_shows_the_same_scene(examples):
    source = Source("test", size=64)
    images, labels = _draw(source, np.arange(40))
    np.testing.assert_array_equal(labels, examples[2][:40])
    halved = images.reshape(40, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    # Edges are blended over half the width.
    error = np.abs(halved - examples[1][:40])
    assert error.max() < 90 and error.mean() < 1


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("A large blue square!", {"size": "large", "color": "blue", "shape": "square"}),
        ("an orange disc in the middle", {"color": "orange", "shape": "circle", "place": "center"}),
        ("top left", {"place": "top left"}),
        (
            "a Tiny lemon wedge, on the right",
            {"size": "small", "color": "yellow", "shape": "triangle", "place": "right"},
        ),
        ("a red scarlet box", {"color": "red", "shape": "square"}),
    ],
)
def test_a_typed_sentence_names_its_words(caption, expected):
    assert parse(caption) == expected


@pytest.mark.parametrize(
    "caption, message",
    [
        ("", "a caption must be a sentence such as .*, got ''$"),
        ("there is a", "a caption must be a sentence such as .*, got 'there is a'$"),
        (
            "a small crimson circle",
            "words of a caption must be small, .*, bottom right, or synonyms, "
            "got 'crimson' in 'a small crimson circle'$",
        ),
        ("a red or blue disc", "got 'or' in 'a red or blue disc'$"),
        (
            "a red blue disc",
            "a caption must name one color, got red and blue in 'a red blue disc'$",
        ),
        ("a box at the left at the top", "must name one place, got left and top in "),
    ],
)
def test_a_sentence_out_of_the_grammar_is_refused(caption, message):
    with pytest.raises(InputError, match=message):
        parse(caption)


@pytest.mark.parametrize(
    "field, value",
    [
        ("split", "validation"),
        ("examples", 0),
        ("size", 15),
        ("held_out", -1),
        ("held_out", 9),
        ("flip", True),
    ],
)
def test_fields_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field} must be .*, got {value!r}"):
        Source(**{field: value})
