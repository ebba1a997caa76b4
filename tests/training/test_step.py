"""Turns and steps: who moves, who holds still, and by how much."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import ONE_BLOCK

from gaxn import data
from gaxn.experiment import make_experiment
from gaxn.distributed import sharding
from gaxn.training import state
from gaxn.training.step import make_step
from gaxn.training.turns import PlayerUpdate, update_player
from gaxn.types import Batch

RATE = 0.2


class Point(nn.Module):
    """A player that is one number."""

    start: float

    @nn.compact
    def __call__(self):
        return self.param("value", nn.initializers.constant(self.start), ())


class DiracGan(nn.Module):
    """Wasserstein game between a point and a line through 0 (Mescheder et al., 2018, eq. 4)."""

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


def _dirac(critic_turns, ema_decay):
    game = DiracGan(Point(1.0), Point(1.0))
    sgd = optax.sgd(RATE)
    turns = (PlayerUpdate("discriminator", DiracGan.discriminator_loss, sgd),) * critic_turns
    turns += (PlayerUpdate("generator", DiracGan.generator_loss, sgd),)
    batches = _batch(len(turns))
    players = {"generator": sgd, "discriminator": sgd}
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    start = jax.jit(lambda key: state.create(game, players, first, key))(jax.random.key(0))
    return jax.jit(make_step(game, turns, ema_decay)), start, batches


def _batch(turns):
    images = jnp.arange(turns, dtype=jnp.uint8).reshape(turns, 1, 1, 1, 1)
    return Batch(images, jnp.zeros((turns, 1), jnp.int32))


@pytest.mark.parametrize("critic_turns", [1, 5])
def test_the_dirac_game_follows_its_recurrence(critic_turns):
    step, now, batches = _dirac(critic_turns, ema_decay=0.9)
    theta = psi = mean = 1.0
    for index in range(50):
        now, _ = step(now, batches, jax.random.key(0))
        for _ in range(critic_turns):
            psi -= RATE * theta
        theta += RATE * psi
        decay = min(0.9, (1 + index) / (10 + index))
        mean = decay * mean + (1 - decay) * theta
    values = (
        now.params["generator"]["value"],
        now.params["discriminator"]["value"],
        now.ema["value"],
    )
    # float32 over 300 additions of numbers near 1.
    np.testing.assert_allclose(values, (theta, psi, mean), rtol=2e-5, atol=2e-5)
    assert now.step == 50


def test_no_two_turns_share_a_key():
    step, now, batches = _dirac(1, ema_decay=0.9)
    noises = []
    for _ in range(4):
        now, scalars = step(now, batches, jax.random.key(0))
        noises += [float(scalars["d/noise"]), float(scalars["g/noise"])]
    assert len(set(noises)) == 8


def test_each_turn_sees_its_own_batch():
    step, now, batches = _dirac(3, ema_decay=0.9)
    _, scalars = step(now, batches, jax.random.key(0))
    assert scalars["d/image"] == 2


@pytest.mark.parametrize(
    "mover, rival", [("discriminator", "generator"), ("generator", "discriminator")]
)
def test_the_rival_is_bit_equal_after_a_turn(tiny, mover, rival):
    # A discriminator with statistics of its own, as BatchNorm's in the generator.
    small = ("generator.widths=(8,)", "discriminator.widths=(8,)", "data.size=16")
    attention = ("generator.attention_at=(16,)", "discriminator.attention_at=(8,)")
    statistics = ("discriminator.spectral_norm=True", "penalties={}")
    config = tiny(*small, *attention, *statistics)
    experiment = make_experiment(config, "tiny", sharding.jitted(jax.devices()[:1]))
    before = experiment.create(experiment.key)
    turn = next(turn for turn in experiment.turns if turn.player == mover)
    batch = data.make_reader(experiment.train)(np.arange(8))
    take = jax.jit(lambda now, key: update_player(experiment.game, turn, now, batch, key))
    after, _ = take(before, jax.random.key(1))
    for player, equal in ((rival, True), (mover, False)):
        assert _equal(before.params[player], after.params[player]) == equal
        assert _equal(before.opt_state[player], after.opt_state[player]) == equal
    own = {"generator": "batch_stats", "discriminator": "spectral"}
    for player, collection in own.items():
        held = before.collections[collection][player], after.collections[collection][player]
        assert _equal(*held) == (player == rival)


def test_the_step_is_traced_once(tiny):
    placement = sharding.jitted(jax.devices())
    experiment = make_experiment(tiny(*ONE_BLOCK), "tiny", placement)
    program = placement.step(chex.assert_max_traces(experiment.step, 1))
    now = placement.place(jax.device_get(experiment.create(experiment.key)))
    for step in range(3):
        now, _ = program(now, experiment.feed(step), experiment.key)
    assert placement.to_host(now).step == 3


def test_no_key_is_used_twice(tiny):
    penalties = "penalties={'r1': 1.0, 'wgan_gp': 1.0}"
    config = tiny(*ONE_BLOCK, "augmentations={'translation': {}}", penalties)
    experiment = make_experiment(config, "tiny", sharding.jitted(jax.devices()[:1]))
    with jax.debug_key_reuse(True):
        now = experiment.create(experiment.key)
        jax.jit(experiment.step)(now, experiment.feed(0), jax.random.clone(experiment.key))


def test_the_audit_of_keys_sees_inside_a_jitted_step():
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: jax.vmap(twice)(jax.random.split(key)))(jax.random.key(0))


def _equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)
