"""The Dirac-GAN (Mescheder et al., 2018): which games and updates converge, and how fast.

Generated data are the point theta, real data the point 0, and D(x) = psi x. Everything else is
what trains images.
"""

import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn import parts
from gaxn.gans.gan import GAN
from gaxn.objectives.augmentations import instance_noise
from gaxn.training import state, updates
from gaxn.training.step import make_step
from gaxn.training.turns import PlayerUpdate
from gaxn.training.updates import alternating, consensus, extragradient, simultaneous, unrolled
from gaxn.types import Batch, InputError

RATE = 0.2
FILES = [
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(updates.__path__, "gaxn.training.updates.")
]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Point(nn.Module):
    @nn.compact
    def __call__(self, latents, labels, train):
        theta = self.param("value", nn.initializers.ones, (), jnp.float64)
        return jnp.broadcast_to(theta, (latents.shape[0], 1))


class Slope(nn.Module):
    @nn.compact
    def __call__(self, points, labels, train):
        return self.param("value", nn.initializers.ones, (), jnp.float64) * points[:, 0]


def _game(loss="non_saturating", penalties=None, augmentations=()):
    terms = tuple(parts.make_penalty(name, spec) for name, spec in (penalties or {}).items())
    adversarial = parts.make_loss({"name": loss})
    objective = parts.make_objective(adversarial, terms, (), augmentations)
    return GAN(Point(), Slope(), objective, latent=1, conditional=False)


def _step(game, update, optimizer=None, critic_turns=1, generator_turns=1, batch=1):
    """A function (theta, psi) -> the same after a step; and state -> state."""
    moves = {player: optimizer or optax.sgd(RATE) for player in parts.PLAYERS}
    d_turn = PlayerUpdate("discriminator", GAN.discriminator_loss, moves["discriminator"])
    g_turn = PlayerUpdate("generator", GAN.generator_loss, moves["generator"])
    turns = (d_turn,) * critic_turns + (g_turn,) * generator_turns
    zeros = Batch(jnp.zeros((len(turns), batch, 1)), None)
    first = Batch(zeros.images[0], None)
    start = jax.jit(lambda key: state.create(game, moves, first, key))(jax.random.key(0))
    step = make_step(game, turns, 0.9, update)

    def of_state(now):
        return step(now, zeros, jax.random.key(0))[0]

    def of_point(point):
        params = {"generator": {"value": point[0]}, "discriminator": {"value": point[1]}}
        after = of_state(start.replace(params=params)).params
        return jnp.stack([after[player]["value"] for player in ("generator", "discriminator")])

    return of_point, of_state, start


def _factor(game, update, **options):
    """How far from the equilibrium a step leads, at the equilibrium."""
    of_point, _, _ = _step(game, update, **options)
    return np.abs(np.linalg.eigvals(jax.jacobian(of_point)(jnp.zeros(2)))).max()


def _path(steps=500, **options):
    """|(theta, psi)| after each step from (1, 1)."""
    _, of_state, start = _step(**options)

    def walk(now, _):
        now = of_state(now)
        values = [now.params[player]["value"] for player in parts.PLAYERS]
        return now, jnp.sqrt(jnp.sum(jnp.square(jnp.stack(values))))

    return np.asarray(jax.jit(lambda now: jax.lax.scan(walk, now, length=steps)[1])(start))


# The weight at which each penalty of this game is weight / 2 psi^2.
ZERO_CENTERED = {"r1": 1.0, "r2": 1.0, "zero_centered": 0.5}


def _closed_form(weight):
    return np.sqrt(1 - RATE * weight + RATE**2 / 4)


def test_without_a_penalty_it_diverges_as_the_closed_form_says():
    for loss in ("minimax", "non_saturating"):
        np.testing.assert_allclose(_factor(_game(loss), simultaneous.Update()), 1.00499, atol=1e-5)
        np.testing.assert_allclose(
            _factor(_game(loss), simultaneous.Update()), _closed_form(0), rtol=1e-9
        )


@pytest.mark.parametrize("weight, published", [(0.3, 0.97468), (1.0, 0.9)])
@pytest.mark.parametrize("name", ZERO_CENTERED)
def test_zero_centered_penalties_contract_as_the_closed_form_says(name, weight, published):
    game = _game(penalties={name: weight * ZERO_CENTERED[name]})
    factor = _factor(game, simultaneous.Update())
    np.testing.assert_allclose(factor, published, atol=5e-6)
    # At weight 1 the root is double, and numerical roots are right to half the digits.
    np.testing.assert_allclose(factor, _closed_form(weight), rtol=1e-6)


@pytest.mark.parametrize("critic_turns", [1, 5])
def test_alternating_turns_keep_their_distance(critic_turns):
    # Each turn is a shear, so the area is kept: the product of the factors is 1.
    factor = _factor(_game(), alternating.Update(), critic_turns=critic_turns)
    np.testing.assert_allclose(factor, 1, rtol=1e-9)
    contracting = _factor(
        _game(penalties={"r1": 0.3}), alternating.Update(), critic_turns=critic_turns
    )
    assert contracting < 0.99


def test_extragradient_and_consensus_contract_as_their_closed_forms_say():
    # Of the bilinear game the eigenvalues are those of a rotation by a quarter.
    bilinear = _game("wasserstein")
    found = _factor(bilinear, simultaneous.Update())
    np.testing.assert_allclose(found, np.sqrt(1 + RATE**2), rtol=1e-12)
    found = _factor(bilinear, extragradient.Update())
    np.testing.assert_allclose(found, np.sqrt((1 - RATE**2) ** 2 + RATE**2), rtol=1e-12)
    for weight in (0.0, 0.5, 2.0):
        found = _factor(bilinear, consensus.Update(weight))
        expected = np.hypot(1 - RATE * weight, RATE)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 5])
def test_unrolling_damps_as_its_closed_form_says(steps):
    # The generator's loss at psi - steps h theta has a term steps h theta^2.
    expected = np.array([[1 - 2 * steps * RATE**2, RATE], [-RATE, 1]])
    of_point, _, _ = _step(_game("wasserstein"), unrolled.Update(steps))
    np.testing.assert_allclose(jax.jacobian(of_point)(jnp.ones(2)), expected, rtol=1e-12)
    assert np.abs(np.linalg.eigvals(expected)).max() < 1


def test_optimistic_steps_contract_as_their_recurrence_says():
    options = {"game": _game("wasserstein"), "update": simultaneous.Update()}
    path = _path(optimizer=optax.optimistic_gradient_descent(RATE), **options)
    # x' = x + h (2 J x - J x_before), and J has the eigenvalues i and -i.
    roots = np.roots([1, -(1 + 2j * RATE), 1j * RATE])
    rate = (path[-1] / path[200]) ** (1 / 299)
    np.testing.assert_allclose(rate, np.abs(roots).max(), rtol=1e-4)
    assert rate < 1


def test_optimistic_adam_is_there_by_its_name():
    spec = {"name": "optimistic_adam_v2", "learning_rate": 0.02, "b1": 0.5}
    moves = parts.make_optimizer({"generator": spec}, "generator")
    plain = optax.adam(0.02, b1=0.5)
    options = {"game": _game("wasserstein"), "update": simultaneous.Update(), "steps": 3_000}
    optimistic, adam = (_path(optimizer=optimizer, **options) for optimizer in (moves, plain))
    assert optimistic[-1] < 0.5 * adam[-1]


NOISE = (instance_noise.Augmentation(deviation=1.0),)
CONVERGE = {
    "R1": {"game": _game(penalties={"r1": 1.0})},
    "R2": {"game": _game(penalties={"r2": 1.0})},
    "zero-centered": {"game": _game(penalties={"zero_centered": 0.5})},
    "consensus": {"game": _game(), "update": consensus.Update(1.0)},
    "lazy R1": {"game": _game(penalties={"r1": {"weight": 1.0, "every": 4}})},
}
DO_NOT = {
    "minimax": {"game": _game("minimax")},
    "non-saturating": {"game": _game()},
    "WGAN": {
        "game": _game("wasserstein"),
        "optimizer": optax.chain(optax.sgd(RATE)),
    },
    "WGAN, clipped": {
        "game": _game("wasserstein"),
        "optimizer": parts.make_optimizer(
            {"discriminator": {"name": "sgd", "learning_rate": RATE, "clip": 1.0}}, "discriminator"
        ),
    },
    "WGAN-GP": {"game": _game("wasserstein", {"wgan_gp": 1.0})},
}


@pytest.mark.parametrize("name", CONVERGE)
def test_these_converge(name):
    path = _path(**{"update": simultaneous.Update(), **CONVERGE[name]})
    assert path[-1] < 1e-6


@pytest.mark.parametrize("update", [simultaneous.Update(), alternating.Update()])
@pytest.mark.parametrize("name", DO_NOT)
def test_these_do_not_converge(name, update):
    path = _path(**{"update": update, **DO_NOT[name]})
    assert path[-100:].max() > 0.3


def test_instance_noise_converges_but_for_its_own_noise():
    options = {"update": simultaneous.Update(), "batch": 512}
    noisy = _path(game=_game(augmentations=NOISE), **options)
    # A batch's mean of the noise has a deviation of 1 / sqrt(512).
    assert noisy[-100:].max() < 0.2 < 0.3 < noisy[:5].min()


def test_the_generator_can_take_several_turns():
    of_point, *_ = _step(_game("wasserstein"), alternating.Update(), generator_turns=3)
    theta, psi = of_point(jnp.array([0.7, -0.4]))
    np.testing.assert_allclose(psi, -0.4 - RATE * 0.7, rtol=1e-12)
    np.testing.assert_allclose(theta, 0.7 + 3 * RATE * psi, rtol=1e-12)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.split(".")[-1])
def test_every_update_moves_both_players_once(file):
    of_point, of_state, start = _step(_game(), file.Update())
    after = of_state(start)
    assert after.step == 1
    for player in parts.PLAYERS:
        assert after.params[player]["value"] != start.params[player]["value"]
    assert (of_point(jnp.ones(2)) != 1).all()


@pytest.mark.parametrize("file", [simultaneous, extragradient, consensus, unrolled])
def test_updates_at_once_refuse_several_critic_turns(file):
    with pytest.raises(InputError, match=r"turns is 3; valid is 2"):
        _step(_game(), file.Update(), critic_turns=2)[1](_step(_game(), file.Update())[2])


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="weight is -1"):
        consensus.Update(-1.0)
    with pytest.raises(InputError, match="steps is 0"):
        unrolled.Update(0)
