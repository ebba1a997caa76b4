"""What evaluators see of a state: samples by index, attention where there is some."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax
import pytest
from scipy import stats

from gaxn import parts
from gaxn.build import build
from gaxn.data import pixels
from gaxn.distributed import sharding
from gaxn.evaluation import sampling
from gaxn.gans.gan import GAN
from gaxn.models import dcgan
from gaxn.nn import norms
from gaxn.nn.attention import SelfAttention
from gaxn.objectives.objective import Objective
from gaxn.training import population, state
from gaxn.types import Batch

KEY = jax.random.key(0)
OFF = ["generator.attention_at=()", "discriminator.attention_at=()"]


def _subject(config):
    experiment = build(config, "tiny", sharding.jitted(jax.devices()[:1]))
    return experiment.subject(jax.device_get(experiment.create(experiment.key)))


@pytest.fixture(scope="module")
def subject(tiny):
    """What the first state of the small experiment shows."""
    return _subject(tiny())


@pytest.mark.parametrize(
    "overrides, generator, discriminator",
    [([], {"attention_16"}, {"attention_8"}), (OFF, set(), set())],
)
def test_attention_is_what_the_networks_have(tiny, subject, overrides, generator, discriminator):
    subject = _subject(tiny(*overrides)) if overrides else subject
    indices, labels = np.arange(3), np.array([0, 2, 1])
    images = subject.sample(indices, labels)
    assert set(subject.generator_attention(indices, labels)) == generator
    assert set(subject.discriminator_attention(images, labels)) == discriminator
    layers = {"generator": generator, "discriminator": discriminator}
    assert set(subject.gammas) == {
        f"{player}/{name}" for player in layers for name in layers[player]
    }


def test_a_sample_depends_on_its_index_and_label_alone(subject):
    labels = np.array([0, 1, 2, 0, 1, 2])
    together = subject.sample(np.arange(6), labels)
    order = np.array([4, 1, 5])
    # Another batch size may round otherwise, by one level of 255.
    difference = together[order].astype(int) - subject.sample(order, labels[order])
    assert np.abs(difference).max() <= 1
    assert (together[0] != together[3]).any()


@pytest.fixture(scope="module")
def wide(tiny):
    """An experiment with many numbers in a latent, and its first state."""
    config = tiny(*networks.ONE_BLOCK, "game.latent=64")
    experiment = build(config, "tiny", sharding.jitted(jax.devices()[:1]))
    return experiment, jax.device_get(experiment.create(experiment.key))


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_truncation_bounds_every_number_of_a_latent(wide, bound):
    experiment, start = wide
    members = population.members(0, 1)
    narrow, full = (
        sampling.make_sampler(experiment.game, members, 3, sampling.SamplingOptions(truncation=truncation))(
            start
        )
        for truncation in (bound, 0.0)
    )
    indices = np.arange(500)
    latents, unbounded = (np.asarray(subject.latents(indices)) for subject in (narrow, full))
    assert np.abs(latents).max() <= bound < np.abs(unbounded).max()
    # The variance of a standard normal cut at both sides, over 32,000 numbers.
    cut = stats.truncnorm(-bound, bound)
    np.testing.assert_allclose(latents.std(), cut.std(), rtol=0.02)
    assert stats.kstest(latents.ravel(), cut.cdf).pvalue > 1e-3
    labels = np.zeros(3, np.int32)
    assert (narrow.sample(indices[:3], labels) != full.sample(indices[:3], labels)).any()
    assert (narrow.facts["truncation"], full.facts["truncation"]) == (bound, "none")


def test_rendering_the_latents_of_samples_is_sampling_them(subject):
    indices, labels = np.arange(6), np.array([0, 1, 2, 0, 1, 2], np.int32)
    images = subject.render(subject.latents(indices), labels)
    np.testing.assert_array_equal(images, subject.sample(indices, labels))
    weights = np.eye(3, dtype=np.float32)[labels]
    of_weights = subject.render(subject.latents(indices), weights).astype(int)
    # An embedding read, or summed with weights of 0 and 1.
    assert np.abs(of_weights - images).max() <= 1
    mixed = subject.render(subject.latents(indices), np.full((6, 3), 1 / 3, np.float32))
    assert np.abs(mixed.astype(int) - images).max() > 1


class Attentive(nn.Module):
    """Batch statistics, and attention that shows them."""

    @nn.compact
    def __call__(self, images, labels, train):
        x = norms.batch_norm(train)(nn.Dense(8)(images))
        return SelfAttention(1)(x, train).mean(axis=(1, 2, 3))


def test_standing_statistics_are_the_generators_own():
    generator = dcgan.Generator(16, 3, None, (8,))
    game = GAN(generator, Attentive(), partial(Objective, loss=None), 4, False)
    batch = Batch(jnp.zeros((2, 16, 16, 3), jnp.uint8), None)
    start = state.create(game, dict.fromkeys(parts.PLAYERS, optax.sgd(0.1)), batch, KEY)
    kept = jax.tree.map(lambda leaf: leaf + 0.3, start.collections["batch_stats"])
    start = start.replace(collections={**start.collections, "batch_stats": kept})
    standing, running = (
        sampling.make_sampler(
            game, population.members(0, 1), None, sampling.SamplingOptions("raw", statistics)
        )(start)
        for statistics in ("standing", "running")
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    maps = [subject.discriminator_attention(images, None) for subject in (standing, running)]
    jax.tree.map(np.testing.assert_array_equal, *maps)
    assert next(iter(maps[0].values())).std() > 0
    indices = np.arange(3)
    assert (standing.sample(indices, None) != running.sample(indices, None)).any()


def test_attention_in_a_pack_is_that_of_packs_of_one_image(tiny):
    config = tiny("conditional=False", "objective.packing=4")
    experiment = build(config, "tiny", sharding.jitted(jax.devices()[:1]))
    start = jax.device_get(experiment.create(experiment.key))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (found,) = experiment.subject(start).discriminator_attention(images, None).values()
    pack = np.concatenate([pixels.decode(images[1:2])] * 4, axis=-1)
    network = experiment.game.discriminator
    variables = {"params": start.params["discriminator"]}
    _, sown = jax.jit(
        lambda: network.apply(variables, pack, None, False, mutable=["intermediates"])
    )()
    (expected,) = sown["intermediates"]["attention_8"]["weights"]
    assert found.shape[0] == 3
    np.testing.assert_allclose(found[1], expected[0], rtol=1e-5, atol=1e-7)
