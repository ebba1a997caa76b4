"""Player updates and train steps: which player moves, and by how much."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import ONE_BLOCK

from gaxn import data
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.training.state import create_state
from gaxn.training.step import PlayerUpdate, make_train_step, update_player
from gaxn.training.update_rules import alternating
from gaxn.types import Batch

RATE = 0.2


class Point(nn.Module):
    """A player that is one number."""

    start: float

    @nn.compact
    def __call__(self):
        return self.param("value", nn.initializers.constant(self.start), ())


class DiracGAN(nn.Module):
    """Wasserstein GAN of a point and a line through 0 (Mescheder et al., 2018, eq. 4)."""

    generator: nn.Module
    discriminator: nn.Module

    def __call__(self, batch, key):
        return self.generator() + self.discriminator()

    def discriminator_loss(self, batch, examples, key, step):
        noise = jax.random.normal(key)
        scalars = {"noise": noise, "image": batch.images.astype(jnp.float32).mean()}
        return self.discriminator() * self.generator(), scalars

    def generator_loss(self, batch, examples, key, step):
        return -self.discriminator() * self.generator(), {"noise": jax.random.normal(key)}


def _dirac(discriminator_steps, ema_decay):
    """Returns the jitted train step, the state at step 0, and batches."""
    gan, sgd = DiracGAN(Point(1.0), Point(1.0)), optax.sgd(RATE)
    updates = (PlayerUpdate("discriminator", DiracGAN.discriminator_loss, sgd),)
    updates = updates * discriminator_steps
    updates += (PlayerUpdate("generator", DiracGAN.generator_loss, sgd),)
    count = len(updates)
    images = jnp.arange(count, dtype=jnp.uint8).reshape(count, 1, 1, 1, 1)
    batches = Batch(images, jnp.zeros((count, 1), jnp.int32))
    optimizers = {"generator": sgd, "discriminator": sgd}
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    start = jax.jit(lambda key: create_state(gan, optimizers, first, key))(jax.random.key(0))
    return jax.jit(make_train_step(gan, updates, ema_decay, alternating().step)), start, batches


@pytest.mark.parametrize("discriminator_steps", [1, 5])
def test_the_dirac_gan_follows_its_recurrence(discriminator_steps):
    train_step, state, batches = _dirac(discriminator_steps, ema_decay=0.9)
    theta = psi = mean = 1.0
    for index in range(50):
        state, _ = train_step(state, batches, jax.random.key(0))
        for _ in range(discriminator_steps):
            psi -= RATE * theta
        theta += RATE * psi
        decay = min(0.9, (1 + index) / (10 + index))
        mean = decay * mean + (1 - decay) * theta
    values = (
        state.params["generator"]["value"],
        state.params["discriminator"]["value"],
        state.ema["value"],
    )
    # float32 over 300 additions of numbers near 1.
    np.testing.assert_allclose(values, (theta, psi, mean), rtol=2e-5, atol=2e-5)
    assert state.step == 50


def test_no_two_updates_share_a_key():
    train_step, state, batches = _dirac(1, ema_decay=0.9)
    noises = []
    for _ in range(4):
        state, scalars = train_step(state, batches, jax.random.key(0))
        noises += [float(scalars["d/noise"]), float(scalars["g/noise"])]
    assert len(set(noises)) == 8


def test_each_update_sees_its_own_batch():
    train_step, state, batches = _dirac(3, ema_decay=0.9)
    _, scalars = train_step(state, batches, jax.random.key(0))
    assert scalars["d/image"] == 2


def _experiment(config):
    return make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))


@pytest.mark.parametrize(
    "player, rival",
    [
        pytest.param("discriminator", "generator", marks=pytest.mark.slow),
        ("generator", "discriminator"),
    ],
)
def test_the_rival_is_bit_equal_after_an_update(tiny, player, rival):
    # The discriminator has statistics of spectral norm, the generator those of BatchNorm.
    small = ("generator.widths=(8,)", "discriminator.widths=(8,)", "data.size=16")
    attention = ("generator.attention_at=(16,)", "discriminator.attention_at=(8,)")
    statistics = ("discriminator.spectral_norm=True", "penalties={}")
    experiment = _experiment(tiny(*small, *attention, *statistics))
    before = experiment.create_state(experiment.key)
    player_update = next(update for update in experiment.updates if update.player == player)
    batch = data.make_reader(experiment.train_source)(np.arange(8))
    update = jax.jit(
        lambda state, key: update_player(experiment.gan, player_update, state, batch, key)
    )
    after, _ = update(before, jax.random.key(1))
    for name, equal in ((rival, True), (player, False)):
        assert _equal(before.params[name], after.params[name]) == equal
        assert _equal(before.opt_state[name], after.opt_state[name]) == equal
    for name, collection in (("generator", "batch_stats"), ("discriminator", "spectral")):
        statistics = (state.collections[collection][name] for state in (before, after))
        assert _equal(*statistics) == (name == rival)


def test_the_step_is_traced_once(tiny):
    parallelism = sharding.jit_parallelism(jax.devices())
    experiment = make_experiment(tiny(*ONE_BLOCK), "tiny", parallelism)
    program = parallelism.compile_step(chex.assert_max_traces(experiment.train_step, 1))
    state = parallelism.place(jax.device_get(experiment.create_state(experiment.key)))
    for step in range(3):
        state, _ = program(state, experiment.batches(step), experiment.key)
    assert parallelism.to_host(state).step == 3


def test_no_key_is_used_twice(tiny):
    penalties = "penalties={'r1': {'weight': 1.0}, 'wgan_gp': {'weight': 1.0}}"
    experiment = _experiment(tiny(*ONE_BLOCK, "augmentations={'translation': {}}", penalties))
    with jax.debug_key_reuse(True):
        state, key = experiment.create_state(experiment.key), jax.random.clone(experiment.key)
        jax.jit(experiment.train_step)(state, experiment.batches(0), key)


def test_the_audit_of_keys_sees_inside_a_jitted_step():
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: jax.vmap(twice)(jax.random.split(key)))(jax.random.key(0))


def _equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)
