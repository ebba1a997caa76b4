"""Operations and parameters, against counts by hand."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

from gaxn.experiment import make_experiment
from gaxn.distributed import sharding
from gaxn.evaluation import reports
from gaxn.gans.gan import GAN
from gaxn.io import files
from gaxn.nn import convolution
from gaxn.objectives.losses import Loss, hinge, relativistic
from gaxn.objectives.objective import Objective
from gaxn.training import cost, state
from gaxn.training.step import make_step
from gaxn.training.turns import PlayerUpdate
from gaxn.types import Batch, Sampler

SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
FULL = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
HALF = jax.ShapeDtypeStruct((2, 4, 4, 5), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((4, 4, 3, 5), jnp.float32)
PRODUCT = 2 * 64**3
INSIDE = sum(0 <= 2 * place + tap - 1 < 8 for place in range(4) for tap in range(4))
CONVOLUTION = 2 * 2 * INSIDE**2 * 3 * 5
"""Twice the pairs of a tap and a pixel that meet, for 2 images, 3 channels and 5."""


@jax.custom_vjp
def _hidden(x):
    return x @ x, x + 1


_hidden.defvjp(lambda x: (_hidden(x), x), lambda x, gradients: (gradients[0] @ x,))


def _repeat(x):
    return lax.scan(lambda carry, _: (carry @ carry, None), x, None, length=7)[0]


PROGRAMS = {
    "a product": (lambda x: x @ x, (SQUARE,), PRODUCT),
    "a sum": (lambda x: x + x, (SQUARE,), 64**2),
    "exponentials": (jnp.exp, (SQUARE,), 0),
    "a convolution": (convolution.halve, (FULL, KERNEL), CONVOLUTION),
    "its transpose": (convolution.double, (HALF, KERNEL), CONVOLUTION),
    "its filter's gradient": (
        lambda x, y: convolution.filter_gradient(x, y, 4),
        (FULL, HALF),
        CONVOLUTION,
    ),
    "what is not used": (lambda x: (x @ x, x + 1)[1], (SQUARE,), 64**2),
    "what is not used of a jitted function": (lambda x: jax.jit(_hidden)(x)[1], (SQUARE,), 64**2),
    "a loop's body, once": (_repeat, (SQUARE,), PRODUCT + 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_flops_of_small_programs(name):
    program, shapes, expected = PROGRAMS[name]
    assert cost.flops(program, *shapes) == expected


def test_flops_do_not_depend_on_the_devices():
    with jax.default_device(jax.devices()[2]):
        assert cost.flops(lambda x: x @ x, SQUARE) == PRODUCT


def test_without_a_cpu_backend_flops_are_unknown(monkeypatch):
    def refuse(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", refuse)
    assert cost.flops(lambda x: x @ x, SQUARE) is None


BATCH, LATENT, PIXELS, HIDDEN = 512, 64, 16 * 16 * 3, 128


class Painter(nn.Module):
    """One product."""

    @nn.compact
    def __call__(self, latents, labels, train):
        return nn.Dense(PIXELS, use_bias=False)(latents).reshape(-1, 16, 16, 3)


class Judge(nn.Module):
    """Two products."""

    @nn.compact
    def __call__(self, images, labels, train):
        hidden = nn.relu(nn.Dense(HIDDEN)(images.reshape(images.shape[0], -1)))
        return nn.Dense(1)(hidden)[:, 0]


def _flops_of_a_step(module, critic_turns):
    adversarial = Loss(module.discriminator, module.generator)
    game = GAN(Painter(), Judge(), partial(Objective, loss=adversarial), LATENT, False)
    sgd = optax.sgd(0.1)
    turns = (PlayerUpdate("discriminator", GAN.discriminator_loss, sgd),) * critic_turns
    turns += (PlayerUpdate("generator", GAN.generator_loss, sgd),)
    images = jax.ShapeDtypeStruct((len(turns), BATCH, 16, 16, 3), jnp.uint8)
    players = {"generator": sgd, "discriminator": sgd}
    first = Batch(jnp.zeros(images.shape[1:], jnp.uint8), None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    start = jax.eval_shape(lambda key: state.create(game, players, first, key), key)
    return cost.flops(make_step(game, turns, 0.9), start, Batch(images, None), key)


@pytest.mark.parametrize("critic_turns", [1, 3])
def test_flops_of_a_step_are_those_of_a_hand_count(critic_turns):
    paint = 2 * BATCH * LATENT * PIXELS
    first, second = 2 * BATCH * PIXELS * HIDDEN, 2 * BATCH * HIDDEN
    # Forward and the gradients of both kernels on real and generated images; the gradient
    # of an input is due in the second layer alone.
    d_turn = paint + 2 * (2 * (first + second) + second)
    # Forward, the gradients of both inputs, and that of the generator's kernel.
    g_turn = paint + 2 * (first + second) + paint
    expected = critic_turns * d_turn + g_turn
    without = _flops_of_a_step(hinge, critic_turns)
    # The rest is arithmetic an element: noise, the hinge, the optimizer, the running mean.
    assert expected < without < 1.02 * expected
    # The relativistic loss also needs the real images' logits in the generator's turn.
    more = _flops_of_a_step(relativistic, critic_turns) - without
    assert more == pytest.approx(first + second, rel=0.02)


def test_parameters_are_counted_by_player():
    shapes = {"generator": {"a": FULL, "b": SQUARE}, "discriminator": {"kernel": KERNEL}}
    expected = {"generator": 2 * 8 * 8 * 3 + 64 * 64, "discriminator": 4 * 4 * 3 * 5}
    assert cost.parameters(shapes) == expected


def test_an_evaluation_says_what_the_run_costs(tiny, tmp_path):
    widths = ("generator.widths=(16, 8, 8)", "discriminator.widths=(8, 8, 16)")
    experiment = make_experiment(tiny(*widths), "tiny", sharding.jitted(jax.devices()[:1]))
    unseen = Sampler(None, None, None, None, None, {}, {})
    nothing = dataclasses.replace(experiment.evaluation, subject=lambda *_: unseen, evaluators=dict)
    bare = dataclasses.replace(experiment, evaluation=nothing)
    reports.evaluate(bare, tmp_path, SimpleNamespace(step=8))
    found = files.read_json(tmp_path / "evaluation.json")["cost"]
    convolutions = 16 * 3 * 8 + 8 + 16 * 8 * 8 + 8 + 16 * 8 * 16 + 16
    attention = 8 + 8 + 64 + 64 + 1
    dense = 256 * 16 + 16 + 16 + 1 + 3 * 16
    assert found["parameters"]["discriminator"] == convolutions + attention + dense
    fed = experiment.feed(0)
    start = jax.eval_shape(experiment.create, experiment.key)
    assert found["flops_a_step"] == cost.flops(experiment.step, start, fed, experiment.key) > 1e8
