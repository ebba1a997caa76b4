"""Networks of the DCGAN: shapes, initial weights, labels, coupled examples."""

import jax
import networks
import numpy as np
import pytest

from gaxn.models.dcgan import Discriminator, Generator
from gaxn.types import InputError

AFTER_FIRST_DOUBLING = (
    2 * 16
    + 4 * 4 * 16 * 8  # 14 -> 28
    + 2 * 8
    + 3 * 3 * 8 * 1
    + 1
)
GENERATOR = (
    networks.LATENT * 7 * 7 * 16
    + 2 * 16
    + 4 * 4 * 16 * 16  # 7 -> 14
    + AFTER_FIRST_DOUBLING
)
DISCRIMINATOR = 4 * 4 * 1 * 8 + 8 + 4 * 4 * 8 * 16 + 16 + 7 * 7 * 16 + 1


def _generator(classes=networks.CLASSES, size=28):
    return Generator(size, 1, classes, (16, 8), embedding=6)


def _discriminator(classes=networks.CLASSES, batch_norm=False, hidden=0):
    return Discriminator(classes, (8, 16), batch_norm, hidden)


@pytest.mark.parametrize("classes", [None, networks.CLASSES])
def test_images_and_logits_have_the_right_shapes_and_ranges(classes):
    images = networks.check_images(_generator(classes), 28, 1, True)
    networks.check_logits(_discriminator(classes), images, {"params"})


@pytest.mark.parametrize(
    "network, draw, expected",
    [
        (_generator(None), networks.draw_latents, GENERATOR),
        (_generator(), networks.draw_latents, GENERATOR + networks.CLASSES * 6 + 6 * 7 * 7 * 16),
        (_discriminator(None), lambda: networks.draw_images(28, 1), DISCRIMINATOR),
        (_discriminator(None, True), lambda: networks.draw_images(28, 1), DISCRIMINATOR + 2 * 16),
        (
            _discriminator(None, hidden=12),
            lambda: networks.draw_images(28, 1),
            DISCRIMINATOR + (7 * 7 * 16 + 1) * 12 + 12 - 7 * 7 * 16,
        ),
        (
            _discriminator(),
            lambda: networks.draw_images(28, 1),
            DISCRIMINATOR + networks.CLASSES * 28 * 28 + 4 * 4 * 8,
        ),
    ],
)
def test_the_number_of_parameters(network, draw, expected):
    assert networks.count_parameters(network, draw()) == expected


@pytest.mark.parametrize(
    "network, x",
    [
        (Generator(28, 1, None, (64, 32)), np.zeros((1, 100), np.float32)),
        (Discriminator(None, (64, 64)), np.zeros((1, 28, 28, 1), np.float32)),
    ],
)
def test_every_kernel_starts_with_a_deviation_of_2_percent(network, x):
    params = jax.jit(lambda key: network.init(key, x, None, True))(jax.random.key(0))["params"]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1 and leaf.size > 2_000]
    assert len(kernels) >= 2
    for kernel in kernels:
        # The standard error of a deviation is 1.6 % for 2,000 values.
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.07)
        assert abs(np.mean(kernel)) < 0.002


@pytest.mark.parametrize(
    "network, draw",
    [
        (_generator(), networks.draw_latents),
        (_discriminator(), lambda: networks.draw_images(28, 1)),
    ],
)
def test_the_output_depends_on_the_label(network, draw):
    x = draw()
    variables = networks.initialize(network, x)
    first, second = (
        np.asarray(networks.apply(network, variables, x, labels, False)).reshape(networks.BATCH, -1)
        for labels in (networks.LABELS, networks.OTHER_LABELS)
    )
    difference = np.abs(first - second).max(axis=1)
    assert difference[0] < 1e-6
    assert (difference[1:] > 1e-4).all()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_only_batch_norm_couples_the_images(batch_norm):
    discriminator = _discriminator(None, batch_norm)
    images = networks.draw_images(28, 1)
    variables = networks.initialize(discriminator, images)
    changed = images * np.array([1, -1, 1], np.float32)[:, None, None, None]
    first, second = (
        np.asarray(networks.apply(discriminator, variables, x, None, True))
        for x in (images, changed)
    )
    assert (np.abs(first - second)[[0, 2]].max() > 1e-4) == batch_norm


def test_an_odd_resolution_is_one_less_than_doubled():
    generator = Generator(30, 1, None, (16, 8), first=4)
    images = networks.check_images(generator, 30, 1, True)
    networks.check_logits(_discriminator(None), images, {"params"})
    # 8 -> 15 -> 30
    expected = networks.LATENT * 8 * 8 * 4 + 2 * 4 + 4 * 4 * 4 * 16 + AFTER_FIRST_DOUBLING
    assert networks.count_parameters(generator, networks.draw_latents()) == expected
    assert (
        networks.count_parameters(_discriminator(None), images)
        == DISCRIMINATOR + (8 * 8 - 7 * 7) * 16
    )


@pytest.mark.parametrize(
    "network", [Generator(4, 1, None, (8, 8, 8)), Discriminator(None, (8, 8, 8))]
)
def test_a_size_that_is_too_small_for_the_widths_is_refused(network):
    x = networks.draw_latents() if isinstance(network, Generator) else networks.draw_images(4, 1)
    with pytest.raises(InputError, match=r"widths must have at most 2 entries .*, got 3"):
        networks.count_parameters(network, x)
