"""What a game adds to its losses: the examples that teach the generator, and held logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn import axis, mesh
from gaxn.build import build
from gaxn.games.image_gan import ImageGan
from gaxn.types import InputError


def _game(**options):
    return ImageGan(None, None, None, 1, **options)


def test_the_generator_learns_from_those_that_look_most_real():
    logits = jnp.asarray(np.random.default_rng(0).permutation(20).astype(np.float32))
    game = _game(top_share=0.5, top_until=100)
    for step, kept in ((0, 20), (50, 15), (100, 10), (10_000, 10)):
        weights = np.asarray(game._top(logits, jnp.int32(step)))
        np.testing.assert_allclose(weights, np.where(logits >= 20 - kept, 20 / kept, 0), rtol=1e-6)
    of_devices = jax.pmap(lambda part: game._top(part, jnp.int32(100)), axis.DATA)
    parts = of_devices(logits.reshape(4, 5)).reshape(-1)
    np.testing.assert_allclose(parts, game._top(logits, jnp.int32(100)), rtol=1e-6)


def test_lecam_holds_each_side_to_the_other_sides_running_mean(ring):
    config = ring("population=1", variant="gan+tiny")
    config.game = {**config.game, "lecam": 0.3}
    experiment = build(config, "tiny", mesh.jitted(jax.devices()[:1]))
    state, anchors = experiment.create(experiment.key), np.zeros(2)
    step = jax.jit(experiment.step)
    for index in range(3):
        state, scalars = step(state, experiment.feed(index), experiment.key)
        anchors = 0.99 * anchors + 0.01 * np.array([scalars["d/real"], scalars["d/fake"]])
        np.testing.assert_allclose(
            state.collections["lecam"]["discriminator_anchors"], anchors, rtol=1e-5, atol=1e-12
        )
        total = scalars["d/adversarial"] + 0.3 * scalars["d/lecam"]
        np.testing.assert_allclose(scalars["d/loss"], total, rtol=1e-5)
        # The mean square is the square of the mean and the spread, which is 0 or more.
        apart = (scalars["d/real"] - anchors[1]) ** 2 + (scalars["d/fake"] - anchors[0]) ** 2
        assert scalars["d/lecam"] >= apart * (1 - 1e-5)


@pytest.mark.parametrize(
    "field, value", [("top_share", 0.0), ("top_share", 1.5), ("top_until", 0), ("lecam", -1.0)]
)
def test_options_out_of_range_are_refused(tiny, field, value):
    config = tiny()
    config.game = {**config.game, field: value}
    with pytest.raises(InputError, match=f"config.game.{field} is {value}"):
        build(config, "tiny")


def test_an_update_trains_images_with_all_that_a_loss_can_have(tiny):
    config = tiny(
        "updates={'name': 'unrolled', 'steps': 1}",
        "loss={'name': 'relativistic_average'}",
        "penalties={'r1': {'weight': 0.5, 'every': 2}, 'dragan': {'weight': 1.0}}",
        "augmentations={'colour': {}, 'cutout': {}, 'instance_noise': {'until': 4}}",
        "generator.attention_at=()",
        "discriminator.attention_at=()",
    )
    experiment = build(config, "tiny", mesh.jitted(jax.devices()[:1]))
    state = experiment.create(experiment.key)
    step = jax.jit(experiment.step)
    for index in range(2):
        state, scalars = step(state, experiment.feed(index), experiment.key)
        assert all(np.isfinite(value) for value in scalars.values())
        assert (scalars["d/r1"] > 0) == (index == 0)
