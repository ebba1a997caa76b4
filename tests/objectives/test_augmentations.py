"""Augmentations: the contract of all, and translation against NumPy's edge padding."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.objectives import augmentations
from gaxn.objectives.augmentations import Augmentation, color, cutout, instance_noise, translation
from gaxn.types import InputError

MAKERS = [
    value
    for value in vars(augmentations).values()
    if inspect.isfunction(value) and value.__annotations__.get("return") == Augmentation
]
HEIGHT, WIDTH = 8, 12
STEP = jnp.int32(0)


def _images(count, height=16, width=24):
    random = np.random.default_rng(0)
    return jnp.asarray(random.uniform(-1, 1, (count, height, width, 3)), jnp.float32)


def _keys(count):
    return jax.random.split(jax.random.key(0), count)


@pytest.mark.parametrize("make", MAKERS)
def test_each_example_is_changed_by_its_own_key(make):
    augment = jax.jit(make())
    images, keys = _images(16), _keys(16)
    changed = augment(images, keys, STEP)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert (changed != images).any()
    assert (augment(images, keys[::-1], STEP) != changed).any()
    order = np.array([3, 15, 0])
    # Means are summed in another order in another batch.
    alone = augment(images[order], keys[order], STEP)
    np.testing.assert_allclose(alone, changed[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_it_is_differentiable(make):
    augment = make()
    images, direction = _images(4), _images(8)[4:]

    @jax.jit
    def total(images):
        return jnp.sum(augment(images, _keys(4), STEP) * jnp.arange(4.0)[:, None, None, None])

    slope = jax.grad(total)(images)
    assert not slope[0].any()
    for example in slope[1:]:
        assert np.abs(example).max() > 0
    step = 1e-2
    difference = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    # Sums of 5,000 float32 terms near 1, divided by the step.
    np.testing.assert_allclose(jnp.vdot(slope, direction), difference, rtol=1e-2, atol=0.1)


def _shifted(image, down, right):
    rows, columns = HEIGHT, WIDTH
    padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
    return padded[rows - down :, columns - right :][:rows, :columns]


def test_translation_is_a_shift_that_repeats_the_edge():
    count = 1000
    image = np.asarray(_images(1, HEIGHT, WIDTH))[0]
    augment = jax.jit(translation(ratio=0.25))
    results = np.asarray(augment(np.broadcast_to(image, (count, *image.shape)), _keys(count), STEP))
    matches = {}
    for down in range(1 - HEIGHT, HEIGHT):
        for right in range(1 - WIDTH, WIDTH):
            equal = (results == _shifted(image, down, right)).all(axis=(1, 2, 3))
            if equal.any():
                matches[down, right] = int(equal.sum())
    assert sum(matches.values()) == count
    # All 35 shifts of up to 2 rows and 3 columns come up in 1,000 draws, but for 1 key in 10^11.
    assert set(matches) == {(down, right) for down in range(-2, 3) for right in range(-3, 4)}


def test_translation_of_ratio_0_is_the_identity():
    images = _images(16)
    result = jax.jit(translation(ratio=0.0))(images, _keys(16), STEP)
    np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize("ratio", [-0.01, 1.01, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio):
    translation(ratio=1.0)
    with pytest.raises(InputError, match=f"ratio must be 0 to 1, got {ratio}"):
        translation(ratio=ratio)


def test_instance_noise_is_gaussian_and_falls_in_a_line():
    images, keys = jnp.zeros((200, 16, 24, 3)), _keys(200)
    augment = jax.jit(instance_noise(deviation=0.5, until=100))
    first = np.asarray(augment(images, keys, STEP)).ravel()
    # 230,400 draws: a deviation within 1 in 340 at two standard errors.
    np.testing.assert_allclose([first.mean(), first.std()], [0, 0.5], atol=5e-3)
    np.testing.assert_allclose(augment(images, keys, 75).ravel(), first / 4, rtol=1e-5, atol=1e-7)
    assert not augment(images, keys, 100).any() and not augment(images, keys, 1_000).any()
    constant = instance_noise(deviation=0.5)
    np.testing.assert_array_equal(constant(images, keys, 10**6), constant(images, keys, STEP))


@pytest.mark.parametrize("options", [{"deviation": -0.1}, {"until": -1}])
def test_noise_out_of_range_is_refused(options):
    (field,) = options
    with pytest.raises(InputError, match=f"{field} must be 0 .*, got -"):
        instance_noise(**options)


def test_cutout_takes_one_rectangle_and_reaches_every_edge():
    count = 500
    images = jnp.ones((count, HEIGHT, WIDTH, 3))
    cut = np.asarray(jax.jit(cutout(ratio=0.5))(images, _keys(count), STEP))[..., 0]
    uncut = 0
    for image in cut:
        rows, columns = (np.flatnonzero((image == 0).any(axis=axis)) for axis in (1, 0))
        # A rectangle: every row in it has the same gap.
        assert (image[np.ix_(rows, columns)] == 0).all()
        assert (image == 0).sum() == len(rows) * len(columns)
        assert len(rows) <= HEIGHT // 2 and len(columns) <= WIDTH // 2
        uncut += len(rows) == HEIGHT // 2 and len(columns) == WIDTH // 2
    # The center is one of 9 x 13 places, of which 5 x 7 leave the rectangle uncut: 0.299, and
    # three standard errors of 0.0205.
    assert abs(uncut / count - 5 * 7 / (9 * 13)) < 0.062
    # A corner is cut by the rectangles of 3 x 4 centers: 12 of 117, and again three errors.
    assert abs((cut == 0).mean(axis=0)[-1, -1] - 3 * 4 / (9 * 13)) < 0.041


def test_color_is_brightness_saturation_and_contrast_in_turn():
    images, keys = _images(8), _keys(8)
    changed = color(0.8, 0.6, 0.4)(images, keys, STEP)
    for image, key, result in zip(np.asarray(images, np.float64), keys, changed, strict=True):
        a, b, c = np.asarray(jax.random.uniform(key, (3,), jnp.float32, -1, 1), np.float64)
        image = image + 0.4 * a
        gray = image.mean(axis=2, keepdims=True)
        image = gray + (1 + 0.6 * b) * (image - gray)
        expected = image.mean() + (1 + 0.4 * c) * (image - image.mean())
        np.testing.assert_allclose(result, expected, atol=1e-5)
    unchanged = color(0.0, 0.0, 0.0)(images, keys, STEP)
    np.testing.assert_allclose(unchanged, images, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: cutout(1.1),
        lambda: color(brightness=-1.0),
        lambda: color(saturation=2.0),
        lambda: color(contrast=2.0),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(InputError, match=r"must be 0 (to 1|or more), got"):
        make()
