"""The DCGAN's two players: shapes, the start of their weights, labels, coupled examples."""

import jax
import numpy as np
import players
import pytest

from gaxn.models.dcgan import Discriminator, Generator
from gaxn.types import InputError

GENERATOR_AFTER = (  # the first doubling
    2 * 16
    + 4 * 4 * 16 * 8  # 14 -> 28
    + 2 * 8
    + 3 * 3 * 8 * 1
    + 1
)
GENERATOR = (
    players.LATENT * 7 * 7 * 16
    + 2 * 16
    + 4 * 4 * 16 * 16  # 7 -> 14
    + GENERATOR_AFTER
)
DISCRIMINATOR = 4 * 4 * 1 * 8 + 8 + 4 * 4 * 8 * 16 + 16 + 7 * 7 * 16 + 1


def _generator(classes=players.CLASSES, size=28):
    return Generator(size, 1, classes, (16, 8), embedding=6)


def _discriminator(classes=players.CLASSES, batch_norm=False):
    return Discriminator(classes, (8, 16), batch_norm)


@pytest.mark.parametrize("classes", [None, players.CLASSES])
def test_shapes_and_ranges(classes):
    images = players.check_images(_generator(classes), 28, 1, True)
    players.check_logits(_discriminator(classes), images, {"params"})


@pytest.mark.parametrize(
    "player, draw, expected",
    [
        (_generator(None), players.draw_latents, GENERATOR),
        (_generator(), players.draw_latents, GENERATOR + players.CLASSES * 6 + 6 * 7 * 7 * 16),
        (_discriminator(None), lambda: players.draw_images(28, 1), DISCRIMINATOR),
        (_discriminator(None, True), lambda: players.draw_images(28, 1), DISCRIMINATOR + 2 * 16),
        (
            _discriminator(),
            lambda: players.draw_images(28, 1),
            DISCRIMINATOR + players.CLASSES * 28 * 28 + 4 * 4 * 8,
        ),
    ],
)
def test_the_number_of_parameters(player, draw, expected):
    assert players.count(player, draw()) == expected


@pytest.mark.parametrize(
    "player, x",
    [
        (Generator(28, 1, None, (64, 32)), np.zeros((1, 100), np.float32)),
        (Discriminator(None, (64, 64)), np.zeros((1, 28, 28, 1), np.float32)),
    ],
)
def test_every_kernel_starts_with_a_deviation_of_2_percent(player, x):
    params = jax.jit(lambda key: player.init(key, x, None, True))(jax.random.key(0))["params"]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1 and leaf.size > 2_000]
    assert len(kernels) >= 2
    for kernel in kernels:
        # The standard error of a deviation is 1.6 % for 2,000 values.
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.07)
        assert abs(np.mean(kernel)) < 0.002


@pytest.mark.parametrize(
    "player, draw",
    [(_generator(), players.draw_latents), (_discriminator(), lambda: players.draw_images(28, 1))],
)
def test_the_label_matters(player, draw):
    x = draw()
    variables = players.initialise(player, x)
    one, other = (
        np.asarray(players.run(player, variables, x, labels, False)).reshape(players.BATCH, -1)
        for labels in (players.LABELS, players.OTHER_LABELS)
    )
    difference = np.abs(one - other).max(axis=1)
    assert difference[0] < 1e-6
    assert (difference[1:] > 1e-4).all()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_only_batch_norm_couples_the_images(batch_norm):
    discriminator = _discriminator(None, batch_norm)
    images = players.draw_images(28, 1)
    variables = players.initialise(discriminator, images)
    changed = images * np.array([1, -1, 1], np.float32)[:, None, None, None]
    one, other = (
        np.asarray(players.run(discriminator, variables, x, None, True)) for x in (images, changed)
    )
    assert (np.abs(one - other)[[0, 2]].max() > 1e-4) == batch_norm


def test_an_odd_resolution_is_doubled_less_one():
    generator = Generator(30, 1, None, (16, 8), first=4)
    images = players.check_images(generator, 30, 1, True)
    players.check_logits(_discriminator(None), images, {"params"})
    # 8 -> 15 -> 30
    expected = players.LATENT * 8 * 8 * 4 + 2 * 4 + 4 * 4 * 4 * 16 + GENERATOR_AFTER
    assert players.count(generator, players.draw_latents()) == expected
    assert players.count(_discriminator(None), images) == DISCRIMINATOR + (8 * 8 - 7 * 7) * 16


@pytest.mark.parametrize(
    "player", [Generator(4, 1, None, (8, 8, 8)), Discriminator(None, (8, 8, 8))]
)
def test_a_size_that_cannot_be_halved_so_often_is_refused(player):
    x = players.draw_latents() if isinstance(player, Generator) else players.draw_images(4, 1)
    with pytest.raises(InputError, match=r"widths has 3 entries.* 2 times"):
        players.count(player, x)
