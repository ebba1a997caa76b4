"""Samplers of a GAN: samples by index, latents, standing statistics, attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax
import pytest
from scipy import stats

from gaxn.data import pixels
from gaxn.distributed import sharding
from gaxn.evaluation.kinds.gan import make_sampler
from gaxn.evaluation.sampling import SamplingOptions
from gaxn.experiment import make_experiment
from gaxn.gans.gan import GAN
from gaxn.models import dcgan
from gaxn.nn import norms
from gaxn.nn.attention import SelfAttention
from gaxn.objectives.losses import hinge
from gaxn.objectives.objective import make_objective
from gaxn.training.population import make_members
from gaxn.training.state import create_state
from gaxn.types import Batch

MEMBERS = make_members(seed=0, count=1)
NO_ATTENTION = ("generator.attention_at=()", "discriminator.attention_at=()")


def _start(config):
    """Returns an experiment on one device, and its first state."""
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    return experiment, jax.device_get(experiment.create_state(experiment.key))


def _first_sampler(config):
    experiment, state = _start(config)
    return experiment.sampler(state)


@pytest.fixture(scope="module")
def sampler(tiny):
    """The sampler of the small experiment's first state."""
    return _first_sampler(tiny())


@pytest.mark.parametrize(
    "overrides, generator, discriminator",
    [((), {"attention_16"}, {"attention_8"}), (NO_ATTENTION, set(), set())],
)
def test_attention_maps_and_gammas_are_those_of_the_layers(
    tiny, sampler, overrides, generator, discriminator
):
    sampler = _first_sampler(tiny(*overrides)) if overrides else sampler
    indices, labels = np.arange(3), np.array([0, 2, 1])
    images = sampler.sample(indices, labels)
    assert set(sampler.generator_attention(indices, labels)) == generator
    assert set(sampler.discriminator_attention(images, labels)) == discriminator
    layers = {"generator": generator, "discriminator": discriminator}
    assert set(sampler.gammas) == {
        f"{player}/{name}" for player in layers for name in layers[player]
    }


def test_a_sample_depends_only_on_its_index_and_label(sampler):
    labels = np.array([0, 1, 2, 0, 1, 2])
    images = sampler.sample(np.arange(6), labels)
    order = np.array([4, 1, 5])
    # Another batch size may round otherwise, by one level of 255.
    difference = images[order].astype(int) - sampler.sample(order, labels[order])
    assert np.abs(difference).max() <= 1
    assert (images[0] != images[3]).any()


def test_rendering_the_latents_of_samples_gives_the_samples(sampler):
    indices, labels = np.arange(6), np.array([0, 1, 2, 0, 1, 2], np.int32)
    images = sampler.render(sampler.latents(indices), labels)
    np.testing.assert_array_equal(images, sampler.sample(indices, labels))
    weights = np.eye(3, dtype=np.float32)[labels]
    from_weights = sampler.render(sampler.latents(indices), weights).astype(int)
    # An embedding read, or summed with weights of 0 and 1.
    assert np.abs(from_weights - images).max() <= 1
    mixed = sampler.render(sampler.latents(indices), np.full((6, 3), 1 / 3, np.float32))
    assert np.abs(mixed.astype(int) - images).max() > 1


def test_raw_weights_are_the_trained_ones(ring):
    experiment, state = _start(ring("population=1", variant="gan+tiny"))
    changed = jax.tree.map(lambda leaf: leaf + 0.05, state.params["generator"])
    trained = state.replace(params={**state.params, "generator": changed})
    indices = np.arange(4)

    def sample(options, state):
        sampler_of = make_sampler(experiment.gan, experiment.members, None, options)
        return sampler_of(state).sample(indices, None)

    for statistics in ("standing", "running"):
        ema, raw = SamplingOptions("ema", statistics), SamplingOptions("raw", statistics)
        np.testing.assert_array_equal(sample(ema, state), sample(ema, trained))
        np.testing.assert_array_equal(sample(ema, state), sample(raw, state))
        assert np.abs(sample(raw, state) - sample(raw, trained)).max() > 0


@pytest.fixture(scope="module")
def wide(tiny):
    """An experiment with 64 numbers in a latent, and its first state."""
    return _start(tiny(*networks.ONE_BLOCK, "gan.latent_size=64"))


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_truncation_bounds_every_number_of_a_latent(wide, bound):
    experiment, state = wide
    truncated, full = (
        make_sampler(experiment.gan, MEMBERS, 3, SamplingOptions(truncation=truncation))(state)
        for truncation in (bound, 0.0)
    )
    indices = np.arange(500)
    latents, unbounded = (np.asarray(sampler.latents(indices)) for sampler in (truncated, full))
    assert np.abs(latents).max() <= bound < np.abs(unbounded).max()
    # The variance of a standard normal cut at both sides, over 32,000 numbers.
    cut = stats.truncnorm(-bound, bound)
    np.testing.assert_allclose(latents.std(), cut.std(), rtol=0.02)
    assert stats.kstest(latents.ravel(), cut.cdf).pvalue > 1e-3
    labels = np.zeros(3, np.int32)
    assert (truncated.sample(indices[:3], labels) != full.sample(indices[:3], labels)).any()
    assert (truncated.facts["truncation"], full.facts["truncation"]) == (bound, "none")


class AttentionDiscriminator(nn.Module):
    """A discriminator with batch statistics, and with attention weights that depend on them."""

    @nn.compact
    def __call__(self, images, labels, train):
        x = norms.batch_norm(train)(nn.Dense(8)(images))
        return SelfAttention(1)(x, train).mean(axis=(1, 2, 3))


def test_standing_statistics_replace_only_the_generators():
    generator = dcgan.Generator(16, 3, None, (8,))
    objective = make_objective(hinge(), {}, {}, ())
    gan = GAN(generator, AttentionDiscriminator(), objective, latent_size=4, conditional=False)
    batch = Batch(jnp.zeros((2, 16, 16, 3), jnp.uint8), None)
    optimizers = dict.fromkeys(gan.losses(), optax.sgd(0.1))
    state = create_state(gan, optimizers, batch, jax.random.key(0))
    statistics = jax.tree.map(lambda leaf: leaf + 0.3, state.collections["batch_stats"])
    state = state.replace(collections={**state.collections, "batch_stats": statistics})
    standing, running = (
        make_sampler(gan, MEMBERS, None, SamplingOptions("raw", statistics))(state)
        for statistics in ("standing", "running")
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    maps = [sampler.discriminator_attention(images, None) for sampler in (standing, running)]
    jax.tree.map(np.testing.assert_array_equal, *maps)
    assert next(iter(maps[0].values())).std() > 0
    indices = np.arange(3)
    assert (standing.sample(indices, None) != running.sample(indices, None)).any()


@pytest.mark.slow
def test_attention_of_a_packed_discriminator_is_that_of_packs_of_one_image(tiny):
    experiment, state = _start(tiny("conditional=False", "objective.packing=4"))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (maps,) = experiment.sampler(state).discriminator_attention(images, None).values()
    pack = np.concatenate([pixels.decode(images[1:2])] * 4, axis=-1)
    network = experiment.gan.discriminator
    variables = {"params": state.params["discriminator"]}
    _, collections = jax.jit(
        lambda: network.apply(variables, pack, None, False, mutable=["intermediates"])
    )()
    (expected,) = collections["intermediates"]["attention_8"]["weights"]
    assert maps.shape[0] == 3
    np.testing.assert_allclose(maps[1], expected[0], rtol=1e-5, atol=1e-7)
