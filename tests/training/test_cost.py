"""Operations and parameters, compared with counts by hand."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from gaxn.distributed import sharding
from gaxn.evaluation import run_evaluation
from gaxn.experiment import make_experiment
from gaxn.gans.gan import GAN
from gaxn.io import files
from gaxn.nn import convolution
from gaxn.objectives.losses import hinge, relativistic
from gaxn.objectives.objective import make_objective
from gaxn.training import cost
from gaxn.training.state import create_state
from gaxn.training.step import PlayerUpdate, make_train_step
from gaxn.training.update_rules import alternating
from gaxn.types import Batch, Sampler

SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
FULL = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
HALF = jax.ShapeDtypeStruct((2, 4, 4, 5), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((4, 4, 3, 5), jnp.float32)
PRODUCT = 2 * 64**3
INSIDE = sum(0 <= 2 * place + tap - 1 < 8 for place in range(4) for tap in range(4))
CONVOLUTION = 2 * 2 * INSIDE**2 * 3 * 5
"""Twice the pairs of a tap and a pixel that meet, for 2 images, 3 channels and 5."""
TILES = 2 * 2 * (4 * 4) ** 2 * 3 * 5
"""The same of all pairs: in tiles there is a border of one pixel, which is cut off."""


@jax.custom_vjp
def _product_and_sum(x):
    return x @ x, x + 1


_product_and_sum.defvjp(
    lambda x: (_product_and_sum(x), x), lambda x, gradients: (gradients[0] @ x,)
)


def _repeat(x):
    return lax.scan(lambda carry, _: (carry @ carry, None), x, None, length=7)[0]


PROGRAMS = {
    "a product": (lambda x: x @ x, (SQUARE,), PRODUCT),
    "a sum": (lambda x: x + x, (SQUARE,), 64**2),
    "exponentials": (jnp.exp, (SQUARE,), 0),
    "a convolution": (convolution.halve, (FULL, KERNEL), CONVOLUTION),
    "its transpose": (convolution.double, (HALF, KERNEL), TILES),
    "its filter's gradient": (
        lambda x, y: convolution.filter_gradient(x, y, 4),
        (FULL, HALF),
        CONVOLUTION,
    ),
    "an unused product": (lambda x: (x @ x, x + 1)[1], (SQUARE,), 64**2),
    "an unused product of a jitted function": (
        lambda x: jax.jit(_product_and_sum)(x)[1],
        (SQUARE,),
        64**2,
    ),
    "a loop's body, once": (_repeat, (SQUARE,), PRODUCT + 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_flops_of_small_programs(name):
    program, shapes, expected = PROGRAMS[name]
    assert cost.flops(jax.jit(program), *shapes) == expected


def test_flops_do_not_depend_on_the_devices():
    with jax.default_device(jax.devices()[2]):
        assert cost.flops(jax.jit(lambda x: x @ x), SQUARE) == PRODUCT


def test_without_a_cpu_backend_flops_are_unknown(monkeypatch):
    def refuse(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", refuse)
    assert cost.flops(jax.jit(lambda x: x @ x), SQUARE) is None


BATCH, LATENT, PIXELS, HIDDEN = 512, 64, 16 * 16 * 3, 128


class Generator(nn.Module):
    """One product."""

    @nn.compact
    def __call__(self, latents, labels, train):
        return nn.Dense(PIXELS, use_bias=False)(latents).reshape(-1, 16, 16, 3)


class Discriminator(nn.Module):
    """Two products."""

    @nn.compact
    def __call__(self, images, labels, train):
        hidden = nn.relu(nn.Dense(HIDDEN)(images.reshape(images.shape[0], -1)))
        return nn.Dense(1)(hidden)[:, 0]


def _flops_of_a_step(loss, discriminator_steps):
    objective = make_objective(loss, {}, {}, ())
    gan = GAN(Generator(), Discriminator(), objective, LATENT, False)
    sgd = optax.sgd(0.1)
    updates = (PlayerUpdate("discriminator", GAN.discriminator_loss, sgd),) * discriminator_steps
    updates += (PlayerUpdate("generator", GAN.generator_loss, sgd),)
    images = jax.ShapeDtypeStruct((len(updates), BATCH, 16, 16, 3), jnp.uint8)
    optimizers = {"generator": sgd, "discriminator": sgd}
    first = Batch(jnp.zeros(images.shape[1:], jnp.uint8), None)
    key = jax.eval_shape(lambda: jax.random.key(0))
    start = jax.eval_shape(lambda key: create_state(gan, optimizers, first, key), key)
    train_step = make_train_step(gan, updates, 0.9, alternating().step)
    return cost.flops(jax.jit(train_step), start, Batch(images, None), key)


@pytest.mark.parametrize("discriminator_steps", [1, 3])
def test_flops_of_a_step_are_those_of_a_hand_count(discriminator_steps):
    generate = 2 * BATCH * LATENT * PIXELS
    first, second = 2 * BATCH * PIXELS * HIDDEN, 2 * BATCH * HIDDEN
    # Forward and the gradients of both kernels on real and generated images; the gradient
    # of an input is due only in the second layer.
    discriminator_update = generate + 2 * (2 * (first + second) + second)
    # Forward, the gradients of both inputs, and that of the generator's kernel.
    generator_update = generate + 2 * (first + second) + generate
    expected = discriminator_steps * discriminator_update + generator_update
    by_hinge = _flops_of_a_step(hinge(), discriminator_steps)
    # The rest is arithmetic per element: noise, the hinge, the optimizer, the running mean.
    assert expected < by_hinge < 1.02 * expected
    # The relativistic loss also needs the real images' logits in the generator's update.
    more = _flops_of_a_step(relativistic(), discriminator_steps) - by_hinge
    assert more == pytest.approx(first + second, rel=0.02)


def test_parameters_are_counted_by_player():
    shapes = {"generator": {"a": FULL, "b": SQUARE}, "discriminator": {"kernel": KERNEL}}
    expected = {"generator": 2 * 8 * 8 * 3 + 64 * 64, "discriminator": 4 * 4 * 3 * 5}
    assert cost.parameters(shapes) == expected


@pytest.mark.slow
def test_an_evaluation_says_what_the_run_costs(tiny, tmp_path):
    widths = ("generator.widths=(16, 8, 8)", "discriminator.widths=(8, 8, 16)")
    experiment = make_experiment(tiny(*widths), "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    sampler = Sampler(None, None, None, {}, {})
    no_plan = dataclasses.replace(
        experiment.evaluation, sampler=lambda *_: sampler, evaluators=dict
    )
    unmeasured = dataclasses.replace(experiment, evaluation=no_plan)
    state = jax.device_get(experiment.create_state(experiment.key))
    run_evaluation.evaluate(unmeasured, tmp_path, state.replace(step=np.int32(8)))
    report = files.read_json(tmp_path / "evaluation.json")["cost"]
    convolutions = 16 * 3 * 8 + 8 + 16 * 8 * 8 + 8 + 16 * 8 * 16 + 16
    attention = 8 + 8 + 64 + 64 + 1
    dense = 256 * 16 + 16 + 16 + 1 + 3 * 16
    assert report["parameters"]["discriminator"] == convolutions + attention + dense
    start = jax.eval_shape(experiment.create_state, experiment.key)
    specs = start, experiment.batches(0), experiment.key
    train_step = jax.jit(experiment.train_step)
    assert report["flops_a_step"] == cost.flops(train_step, *specs) > 9e7
