"""The stream of examples: every one once an epoch, and a pure function of the step."""

import jax
import numpy as np
import pytest

from gaxn import data, feed, keys, mesh, population
from gaxn.build import build
from gaxn.data import shapes

SIZE, TURNS, BATCH = 50, 2, 6


@pytest.fixture
def order():
    return feed.make_order(keys.stream(jax.random.key(0), "data"), SIZE)


def _stream(order, steps):
    return np.concatenate(
        [feed.indices_of_step(order, SIZE, step, TURNS, BATCH).ravel() for step in range(steps)]
    )


def test_each_epoch_has_every_example_once_across_the_seams(order):
    stream = _stream(order, 25)
    epochs = stream[: SIZE * 6].reshape(6, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (6, 1)))


def test_epochs_differ(order):
    epochs = {tuple(order(epoch)) for epoch in range(10)}
    assert len(epochs) == 10


def test_a_step_does_not_depend_on_those_before(order):
    fresh = feed.make_order(keys.stream(jax.random.key(0), "data"), SIZE)
    alone = feed.indices_of_step(fresh, SIZE, 17, TURNS, BATCH)
    np.testing.assert_array_equal(alone.ravel(), _stream(order, 18)[17 * TURNS * BATCH :])


def test_a_batch_larger_than_the_source_wraps(order):
    indices = feed.indices_of_step(order, SIZE, 0, 1, 3 * SIZE)
    np.testing.assert_array_equal(np.bincount(indices.ravel()), np.full(SIZE, 3))


@pytest.mark.parametrize("place", [mesh.jitted, mesh.pmapped])
def test_the_fed_images_are_those_of_the_indices(place):
    source = shapes.Source(examples=SIZE, size=16)
    key = jax.random.key(3)
    placement = place(jax.devices())
    batch = feed.make_feed(source, population.members(3, 1), TURNS, 8, placement)(5)
    order = feed.make_order(keys.stream(key, "data"), SIZE)
    expected = data.reader(source)(feed.indices_of_step(order, SIZE, 5, TURNS, 8))
    images = np.asarray(batch.images)
    if place is mesh.pmapped:
        images = images.swapaxes(0, 1).reshape(expected.images.shape)
    np.testing.assert_array_equal(images, expected.images)


def test_each_turn_of_a_step_has_examples_of_its_own(tiny):
    config = tiny("critic_turns=2", "generator_turns=3")
    experiment = build(config, "tiny", mesh.jitted(jax.devices()[:1]))
    players = [turn.player for turn in experiment.turns]
    assert players == ["discriminator"] * 2 + ["generator"] * 3
    images = np.asarray(experiment.feed(0).images)
    assert images.shape[:2] == (5, config.batch)
    assert len(np.unique(images.reshape(5 * config.batch, -1), axis=0)) == 5 * config.batch
