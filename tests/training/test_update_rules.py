"""The Dirac-GAN (Mescheder et al., 2018): which GANs and update rules converge, and how fast.

Generated data are the point theta, real data the point 0, and D(x) = psi x. All other parts are
those that train images.
"""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn.experiment import make_experiment
from gaxn.experiment.optimizers import make_optimizer
from gaxn.gans.gan import GAN
from gaxn.objectives import losses, penalties
from gaxn.objectives.augmentations import instance_noise
from gaxn.objectives.objective import make_objective
from gaxn.objectives.regularizers import lecam
from gaxn.objectives.schedules import RunLength
from gaxn.training import update_rules
from gaxn.training.state import create_state
from gaxn.training.step import PlayerUpdate, make_train_step
from gaxn.training.update_rules import (
    UpdateRule,
    alternating,
    consensus,
    extragradient,
    simultaneous,
    unrolled,
)
from gaxn.types import Batch, InputError

RATE = 0.2
PLAYERS = "generator", "discriminator"
MAKERS = [
    value
    for value in vars(update_rules).values()
    if inspect.isfunction(value) and value.__annotations__.get("return") is UpdateRule
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


def _gan(loss="non_saturating", augmentations=(), **weights):
    """Returns a GAN with a loss by its name, and penalties by their weights or arguments."""
    arguments = {name: np.atleast_1d(each).tolist() for name, each in weights.items()}
    terms = {name: getattr(penalties, name)(*each) for name, each in arguments.items()}
    objective = make_objective(getattr(losses, loss)(), terms, {}, augmentations)
    return GAN(Point(), Slope(), objective, latent_size=1, conditional=False)


def _step(gan, rule, optimizer=None, discriminator_steps=1, generator_steps=1, batch=1):
    """Returns functions (theta, psi) -> the same after a step, and state -> state; and a state."""
    optimizers = dict.fromkeys(PLAYERS, optimizer or optax.sgd(RATE))
    updates = tuple(
        PlayerUpdate(player, loss, optimizers[player])
        for player, loss in gan.losses().items()
        for _ in range({"discriminator": discriminator_steps, "generator": generator_steps}[player])
    )
    batches = Batch(jnp.zeros((len(updates), batch, 1)), None)
    first = Batch(batches.images[0], None)
    start = jax.jit(lambda key: create_state(gan, optimizers, first, key))(jax.random.key(0))
    train_step = make_train_step(gan, updates, 0.9, rule.step)

    def state_after(state):
        return train_step(state, batches, jax.random.key(0))[0]

    def point_after(point):
        params = {"generator": {"value": point[0]}, "discriminator": {"value": point[1]}}
        after = state_after(start.replace(params=params)).params
        return jnp.stack([after[player]["value"] for player in PLAYERS])

    return point_after, state_after, start


def _factor(gan, rule, **options):
    """Returns the factor by which a step changes the distance to the equilibrium, near it."""
    point_after, _, _ = _step(gan, rule, **options)
    return np.abs(np.linalg.eigvals(jax.jacobian(point_after)(jnp.zeros(2)))).max()


def _path(steps=500, **options):
    """Returns |(theta, psi)| after each step from (1, 1)."""
    _, state_after, start = _step(**options)

    def walk(state, _):
        state = state_after(state)
        values = [state.params[player]["value"] for player in PLAYERS]
        return state, jnp.sqrt(jnp.sum(jnp.square(jnp.stack(values))))

    return np.asarray(jax.jit(lambda state: jax.lax.scan(walk, state, length=steps)[1])(start))


# The weight at which each penalty of this GAN is weight / 2 psi^2.
ZERO_CENTERED = {"r1": 1.0, "r2": 1.0, "zero_centered": 0.5}


def _closed_form(weight):
    return np.sqrt(1 - RATE * weight + RATE**2 / 4)


def test_without_a_penalty_it_diverges_as_the_closed_form_says():
    for loss in ("minimax", "non_saturating"):
        factor = _factor(_gan(loss), simultaneous())
        np.testing.assert_allclose(factor, 1.00499, atol=1e-5)
        np.testing.assert_allclose(factor, _closed_form(0), rtol=1e-9)


@pytest.mark.parametrize("weight, published", [(0.3, 0.97468), (1.0, 0.9)])
@pytest.mark.parametrize("name", ZERO_CENTERED)
def test_zero_centered_penalties_contract_as_the_closed_form_says(name, weight, published):
    factor = _factor(_gan(**{name: weight * ZERO_CENTERED[name]}), simultaneous())
    np.testing.assert_allclose(factor, published, atol=5e-6)
    # At weight 1 the root is double, and numerical roots are right to half the digits.
    np.testing.assert_allclose(factor, _closed_form(weight), rtol=1e-6)


@pytest.mark.parametrize("discriminator_steps", [1, 5])
def test_alternating_updates_keep_their_distance(discriminator_steps):
    # Each update is a shear, so the area is kept: the product of the factors is 1.
    options = {"rule": alternating(), "discriminator_steps": discriminator_steps}
    np.testing.assert_allclose(_factor(_gan(), **options), 1, rtol=1e-9)
    assert _factor(_gan(r1=0.3), **options) < 0.99


def test_extragradient_and_consensus_contract_as_their_closed_forms_say():
    # The eigenvalues of the bilinear GAN are those of a rotation by a quarter.
    bilinear = _gan("wasserstein")
    factor = _factor(bilinear, simultaneous())
    np.testing.assert_allclose(factor, np.sqrt(1 + RATE**2), rtol=1e-12)
    factor = _factor(bilinear, extragradient())
    np.testing.assert_allclose(factor, np.sqrt((1 - RATE**2) ** 2 + RATE**2), rtol=1e-12)
    for weight in (0.0, 0.5, 2.0):
        factor = _factor(bilinear, consensus(weight))
        np.testing.assert_allclose(factor, np.hypot(1 - RATE * weight, RATE), rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 5])
def test_unrolling_damps_as_its_closed_form_says(steps):
    # The generator's loss at psi - steps h theta has a term steps h theta^2.
    expected = np.array([[1 - 2 * steps * RATE**2, RATE], [-RATE, 1]])
    point_after, _, _ = _step(_gan("wasserstein"), unrolled(steps))
    np.testing.assert_allclose(jax.jacobian(point_after)(jnp.ones(2)), expected, rtol=1e-12)
    assert np.abs(np.linalg.eigvals(expected)).max() < 1


def test_optimistic_steps_contract_as_their_recurrence_says():
    options = {"gan": _gan("wasserstein"), "rule": simultaneous()}
    path = _path(optimizer=optax.optimistic_gradient_descent(RATE), **options)
    # x' = x + h (2 J x - J x_before), and J has the eigenvalues i and -i.
    roots = np.roots([1, -(1 + 2j * RATE), 1j * RATE])
    rate = (path[-1] / path[200]) ** (1 / 299)
    np.testing.assert_allclose(rate, np.abs(roots).max(), rtol=1e-4)
    assert rate < 1


def test_optimistic_adam_is_available_by_its_name():
    spec = {"name": "optimistic_adam_v2", "learning_rate": 0.02, "b1": 0.5}
    optimizers = make_optimizer(spec, "generator", RunLength(10, 8)), optax.adam(0.02, b1=0.5)
    options = {"gan": _gan("wasserstein"), "rule": simultaneous(), "steps": 3_000}
    optimistic, adam = (_path(optimizer=optimizer, **options) for optimizer in optimizers)
    assert optimistic[-1] < 0.5 * adam[-1]


CONVERGE = {
    "R1": {"gan": _gan(r1=1.0)},
    "R2": {"gan": _gan(r2=1.0)},
    "zero-centered": {"gan": _gan(zero_centered=0.5)},
    "consensus": {"gan": _gan(), "rule": consensus(1.0)},
    "lazy R1": {"gan": _gan(r1=(1.0, 4))},
}
DO_NOT_CONVERGE = {
    "minimax": {"gan": _gan("minimax")},
    "non-saturating": {"gan": _gan()},
    "WGAN": {"gan": _gan("wasserstein")},
    "WGAN, clipped": {
        "gan": _gan("wasserstein"),
        "optimizer": make_optimizer(
            {"name": "sgd", "learning_rate": RATE, "clip": 1.0}, "discriminator", RunLength(10, 8)
        ),
    },
    "WGAN-GP": {"gan": _gan("wasserstein", wgan_gp=1.0)},
}


@pytest.mark.parametrize("name", CONVERGE)
def test_these_gans_converge(name):
    path = _path(**{"rule": simultaneous(), **CONVERGE[name]})
    assert path[-1] < 1e-6


@pytest.mark.parametrize("make_rule", [simultaneous, alternating])
@pytest.mark.parametrize("name", DO_NOT_CONVERGE)
def test_these_gans_do_not_converge(name, make_rule):
    path = _path(rule=make_rule(), **DO_NOT_CONVERGE[name])
    assert path[-100:].max() > 0.3


def test_instance_noise_converges_up_to_its_own_noise():
    gan = _gan(augmentations=(instance_noise(deviation=1.0),))
    path = _path(gan=gan, rule=simultaneous(), batch=512)
    # A batch's mean of the noise has a deviation of 1 / sqrt(512).
    assert path[-100:].max() < 0.2 < 0.3 < path[:5].min()


def test_the_generator_can_take_several_steps():
    point_after, *_ = _step(_gan("wasserstein"), alternating(), generator_steps=3)
    theta, psi = point_after(jnp.array([0.7, -0.4]))
    np.testing.assert_allclose(psi, -0.4 - RATE * 0.7, rtol=1e-12)
    np.testing.assert_allclose(theta, 0.7 + 3 * RATE * psi, rtol=1e-12)


@pytest.mark.parametrize("make_rule", MAKERS)
def test_every_rule_moves_both_players_once(make_rule):
    point_after, state_after, start = _step(_gan(), make_rule())
    after = state_after(start)
    assert after.step == 1
    for player in PLAYERS:
        assert after.params[player]["value"] != start.params[player]["value"]
    assert (point_after(jnp.ones(2)) != 1).all()


def test_extragradient_counts_a_batch_once_in_statistics():
    """The anchors of LeCam move halfway from 0 to the logits after the step that looks ahead."""
    objective = make_objective(losses.wasserstein(), {}, {"lecam": lecam(0.0, 0.5)}, ())
    gan = GAN(Point(), Slope(), objective, latent_size=1, conditional=False)
    _, state_after, start = _step(gan, extragradient())
    (anchors,) = jax.tree.leaves(state_after(start).collections["lecam"])
    # From (1, 1): the discriminator goes down by theta, the generator up by psi.
    np.testing.assert_allclose(anchors, [0, 0.5 * (1 - RATE) * (1 + RATE)], rtol=1e-6)


def test_consensus_logs_the_gradient_that_moves_the_players():
    gan = _gan("wasserstein")
    rule = consensus(3.0)
    _, _, start = _step(gan, rule)
    updates = tuple(
        PlayerUpdate(player, loss, optax.sgd(RATE)) for player, loss in gan.losses().items()
    )
    batches = Batch(jnp.zeros((2, 1, 1)), None)
    after, scalars = rule.step(gan, updates, start, batches, jax.random.key(0))
    for player, name in (("discriminator", "d"), ("generator", "g")):
        move = after.params[player]["value"] - start.params[player]["value"]
        np.testing.assert_allclose(RATE * scalars[f"{name}/gradient_norm"], abs(move), rtol=1e-9)


@pytest.mark.parametrize("make_rule", MAKERS)
def test_every_rule_says_how_often_it_updates_an_optimizer(make_rule):
    rule = make_rule()
    _, state_after, start = _step(_gan(), rule, optax.sgd(lambda count: RATE))
    counts = jax.tree.leaves(state_after(start).opt_state)
    assert counts == [rule.optimizer_updates] * len(PLAYERS)


@pytest.mark.parametrize("make_rule", [simultaneous, extragradient, consensus, unrolled])
def test_simultaneous_rules_refuse_several_discriminator_steps(make_rule):
    _, state_after, start = _step(_gan(), make_rule(), discriminator_steps=2)
    message = (
        r"the updates of a step must be one .* rule .*, got \['discriminator', 'discriminator'"
    )
    with pytest.raises(InputError, match=message):
        state_after(start)


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="weight must be 0 or more, got -1"):
        consensus(-1.0)
    with pytest.raises(InputError, match="steps must be 1 or more, got 0"):
        unrolled(0)


@jax.enable_x64(False)
def test_all_players_see_shared_examples(ring):
    def make(shared):
        config = ring("population=1", f"update_rule.shared={shared}", variant="gan+tiny")
        return make_experiment(config, "ring")

    apart, shared = make(False), make(True)
    state, batches = apart.create_state(apart.key), apart.batches(0)
    others = jax.tree.map(lambda leaf: leaf.at[1].add(1.0), batches)
    step_apart, step_shared = (jax.jit(each.train_step) for each in (apart, shared))
    expected, _ = step_apart(state, batches, apart.key)
    actual, _ = step_shared(state, batches, apart.key)
    # The second batch is not looked at; the discriminator's update is that of the plain rule.
    jax.tree.map(np.testing.assert_array_equal, actual, step_shared(state, others, apart.key)[0])
    discriminators = (each.params["discriminator"] for each in (actual, expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *discriminators)
    kernels = (each.params["generator"]["Dense_0"]["kernel"] for each in (actual, expected))
    assert not np.allclose(*kernels, rtol=1e-6)
