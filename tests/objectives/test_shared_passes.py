"""A penalty at images of the loss takes its gradient from the pass of the loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaxn.nn import spectral
from gaxn.nn.dropout import Dropout
from gaxn.objectives.losses import relativistic
from gaxn.objectives.objective import LossInputs, Objective
from gaxn.objectives.penalties import dragan, r1, r2
from gaxn.training import cost

RANDOM = np.random.default_rng(0)
REAL, FAKE = (jnp.asarray(RANDOM.normal(size=(6, 5)), jnp.float32) for _ in range(2))
INPUTS = LossInputs(REAL, REAL, FAKE, None, None, jnp.arange(6), jax.random.key(0), jnp.int32(0))


class Discriminator(nn.Module):
    """Two dense layers, the first with dropout or spectral norm."""

    dropout: float = 0.0
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x, labels, train):
        x = nn.tanh(spectral.wrap(self.spectral_norm, nn.Dense(7))(x, train))
        return nn.Dense(1)(Dropout(self.dropout)(x, train))[:, 0]


def _loss(penalties, **options):
    objective = Objective(Discriminator(**options), relativistic(), penalties, {}, ())
    variables = objective.init(jax.random.key(1), REAL, None)

    def loss(params):
        return objective.apply(
            {**variables, "params": params},
            INPUTS,
            method="discriminator_loss",
            mutable=["spectral"],
            rngs={"dropout": jax.random.key(2)},
        )

    return jax.value_and_grad(lambda params: (loss(params)[0][0], loss(params)), has_aux=True), (
        variables["params"]
    )


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("names", [("r1",), ("r2",), ("r1", "r2")])
def test_the_loss_and_its_gradient_are_those_of_separate_passes(names, spectral_norm):
    shared = {name: {"r1": r1, "r2": r2}[name](0.7) for name in names}
    separate = {name: penalty._replace(gradient_side="") for name, penalty in shared.items()}
    (one, params), (other, _) = (
        _loss(penalties, spectral_norm=spectral_norm) for penalties in (shared, separate)
    )
    ((value, ((_, scalars), stored)), gradient) = one(params)
    ((expected, ((_, of_separate), stored_by_separate)), gradient_of_separate) = other(params)
    jax.tree.map(np.testing.assert_array_equal, stored, stored_by_separate)
    assert scalars.keys() == of_separate.keys()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_of_separate), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "penalties", [{}, {"r1": r1(0.7)}, {"r2": r2(0.7)}, {"dragan": dragan(0.7)}]
)
def test_real_and_generated_images_see_one_power_iteration(penalties):
    """The loss of equal images is log 2, however far the iteration is from its end."""
    objective = Objective(Discriminator(spectral_norm=True), relativistic(), penalties, {}, ())
    variables = objective.init(jax.random.key(1), REAL, None)
    inputs = INPUTS._replace(generated=REAL)
    mutable = ["spectral"]
    loss, _ = objective.apply(variables, inputs, method="generator_loss", mutable=mutable)
    np.testing.assert_allclose(loss[0], np.log(2), rtol=1e-6)
    method = "discriminator_loss"
    (_, scalars), _ = objective.apply(variables, inputs, method=method, mutable=mutable)
    np.testing.assert_allclose(scalars["adversarial"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(scalars["real"], scalars["fake"], rtol=1e-6)


def test_a_shared_pass_saves_operations():
    def flops(penalty):
        loss, params = _loss({"r1": penalty})
        return cost.flops(jax.jit(loss), params)

    assert flops(r1(1.0)) < 0.85 * flops(r1(1.0)._replace(gradient_side=""))


def test_a_penalty_sees_no_dropout():
    """The gradient of a logit is W2 (1 - tanh^2) W1, with all hidden features."""
    loss, params = _loss({"r1": r1(1.0)}, dropout=0.5)
    (_, ((_, scalars), _)), _ = loss(params)
    first, last = (
        np.asarray(params["discriminator"][name]["kernel"], np.float64)
        for name in ("Dense_0", "Dense_1")
    )
    bias = np.asarray(params["discriminator"]["Dense_0"]["bias"], np.float64)
    slopes = 1 - np.tanh(np.asarray(REAL, np.float64) @ first + bias) ** 2
    gradient = (slopes * last[:, 0]) @ first.T
    np.testing.assert_allclose(scalars["r1"], (gradient**2).sum(axis=1).mean() / 2, rtol=1e-5)
