"""The stream of examples: each once per epoch, and a pure function of the step."""

import jax
import numpy as np
import pytest

from gaxn import data, keys
from gaxn.data import mixture, npz, pipeline, shapes, unpaired
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.networks import network_arguments
from gaxn.types import InputError

SIZE, UPDATES, BATCH = 50, 2, 6


@pytest.fixture
def order():
    return pipeline.make_order(keys.stream(jax.random.key(0), "data"), SIZE)


def _stream(order, steps):
    return np.concatenate(
        [
            pipeline.indices_of_step(order, SIZE, step, UPDATES, BATCH).ravel()
            for step in range(steps)
        ]
    )


def test_each_epoch_has_every_example_once_also_across_batches(order):
    stream = _stream(order, 25)
    epochs = stream[: SIZE * 6].reshape(6, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (6, 1)))


def test_epochs_differ(order):
    epochs = {tuple(order(epoch)) for epoch in range(10)}
    assert len(epochs) == 10


def test_a_step_does_not_depend_on_the_steps_before(order):
    fresh = pipeline.make_order(keys.stream(jax.random.key(0), "data"), SIZE)
    indices = pipeline.indices_of_step(fresh, SIZE, 17, UPDATES, BATCH)
    np.testing.assert_array_equal(indices.ravel(), _stream(order, 18)[17 * UPDATES * BATCH :])


def test_a_batch_larger_than_the_source_wraps(order):
    indices = pipeline.indices_of_step(order, SIZE, 0, 1, 3 * SIZE)
    np.testing.assert_array_equal(np.bincount(indices.ravel()), np.full(SIZE, 3))


@pytest.mark.parametrize("place", [sharding.jit_parallelism, sharding.pmap_parallelism])
def test_the_batch_contains_the_images_at_the_indices(place):
    source = shapes.Source(examples=SIZE, size=16)
    key = jax.random.key(3)
    parallelism = place(jax.devices())
    batch = pipeline.make_batches(source, [jax.random.key(3)], UPDATES, 8, parallelism)(5)
    order = pipeline.make_order(keys.stream(key, "data"), SIZE)
    expected = data.make_reader(source)(pipeline.indices_of_step(order, SIZE, 5, UPDATES, 8))
    images = np.asarray(batch.images)
    if place is sharding.pmap_parallelism:
        images = images.swapaxes(0, 1).reshape(expected.images.shape)
    np.testing.assert_array_equal(images, expected.images)


def test_each_update_of_a_step_has_different_examples(tiny):
    config = tiny("discriminator_steps=2", "generator_steps=3")
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    players = [update.player for update in experiment.updates]
    assert players == ["discriminator"] * 2 + ["generator"] * 3
    images = np.asarray(experiment.batches(0).images)
    assert images.shape[:2] == (5, config.batch_size)
    count = 5 * config.batch_size
    assert len(np.unique(images.reshape(count, -1), axis=0)) == count


def test_half_of_the_images_are_flipped_by_seed_step_and_example(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels)
    one, several = (
        sharding.jit_parallelism(devices) for devices in (jax.devices()[:1], jax.devices())
    )

    def batches(flip, parallelism):
        source = npz.Source("train", str(tmp_path / "set.npz"), flip=flip)
        read = pipeline.make_batches(source, [jax.random.key(3)], UPDATES, 8, parallelism)
        return lambda step: np.asarray(read(step).images).reshape(UPDATES * 8, 4, 4, 3)

    plain, flipping, sharded = batches(False, one), batches(True, one), batches(True, several)
    key = keys.stream(keys.stream(jax.random.key(3), "data"), "flip")
    for step in range(3):
        draws = jax.random.bernoulli(jax.random.fold_in(key, step), shape=(UPDATES, 8))
        is_flipped = np.asarray(draws).reshape(-1, 1, 1, 1)
        assert 0 < is_flipped.sum() < UPDATES * 8
        expected = np.where(is_flipped, plain(step)[:, :, ::-1], plain(step))
        np.testing.assert_array_equal(flipping(step), expected)
        np.testing.assert_array_equal(sharded(step), expected)


def test_points_and_domains_are_not_flipped(tiny):
    config = tiny()
    config.data.flip = True
    make_experiment(config, "tiny")
    spec = {"name": "shapes", "examples": 10, "size": 16}
    for fields in ({"flip": True}, {"a": {**spec, "flip": True}}):
        with pytest.raises(InputError, match=r"flip must be False with two domains; config\.gan"):
            unpaired.Source("train", **{"a": spec, "b": spec, **fields})
    with pytest.raises(InputError, match=r"config\.data\.flip must be False with points"):
        network_arguments(mixture.Source(centers=((0.0, 1.0),), flip=True), False)
