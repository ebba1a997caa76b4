"""What is watched is what it says, and a collapse is told once, when it lasts."""

import dataclasses
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from gaxn import commands, parts
from gaxn.build import build
from gaxn.data import make_reader
from gaxn.distributed import sharding
from gaxn.evaluation import diagnostics
from gaxn.evaluation.diagnostics import DIVERSITY, EXAMPLES, SATURATION, SINGULAR, make_diagnostics
from gaxn.gans.gan import GAN
from gaxn.io import files
from gaxn.training.state import TrainState


@pytest.fixture(scope="module")
def started(tiny):
    """An experiment and its state at the beginning."""
    return _start(tiny())


def _start(config):
    experiment = build(config, "tiny", sharding.jitted(jax.devices()[:1]))
    return experiment, jax.device_get(experiment.create(experiment.key))


def _constant(state):
    """The same state with a generator that gives one image."""
    return state.replace(
        params={
            **state.params,
            "generator": jax.tree.map(np.zeros_like, state.params["generator"]),
        }
    )


def test_diversity_is_a_share_of_that_of_real_images(started):
    experiment, state = started
    assert experiment.watch(state)[DIVERSITY] > 0.01
    assert experiment.watch(_constant(state))[DIVERSITY] < 1e-6


def test_spread_is_the_mean_over_pairs(started):
    experiment, _ = started
    images = np.asarray(make_reader(experiment.train)(np.arange(10)).images) / 127.5 - 1
    expected = scipy.spatial.distance.pdist(images.reshape(10, -1)).mean()
    np.testing.assert_allclose(diagnostics._spread(images), expected, rtol=1e-5)


class Gray(nn.Module):
    """A generator of mid-gray, whatever it is asked for."""

    @nn.compact
    def __call__(self, latents, labels, train):
        shade = self.param("shade", nn.initializers.zeros, ())
        return jnp.broadcast_to(shade, (latents.shape[0], 32, 32, 3))


class Contrast(nn.Module):
    """A discriminator that asks how far an image is from mid-gray."""

    slope: float

    @nn.compact
    def __call__(self, images, labels, train):
        bias = self.param("bias", nn.initializers.constant(-self.slope), ())
        return 2 * self.slope * jnp.abs(images).mean(axis=(1, 2, 3)) + bias


def test_a_discriminator_is_saturated_where_its_loss_is_flat(started):
    experiment, _ = started
    chosen = np.random.RandomState(0).permutation(len(experiment.train))[:EXAMPLES]
    pictures = make_reader(experiment.train)(chosen).images
    distances = np.abs(np.asarray(pictures, np.float64) / 127.5 - 1).mean(axis=(1, 2, 3))
    threshold = np.median(distances)
    # Hinge: flat where the real logit is above 1 and the other, here the bias, below -1.
    for slope in (0.5, 1 / (2 * threshold - 1)):
        loss = parts.make_loss({"name": "hinge"})
        game = GAN(
            Gray(),
            Contrast(slope),
            parts.make_objective(loss, (), (), ()),
            latent=1,
            conditional=False,
        )
        watch = make_diagnostics(game, loss, experiment.members, experiment.train, False)
        params = {"generator": {"shade": 0.0}, "discriminator": {"bias": -slope}}
        found = watch(TrainState(0, params, {}, {}, {}))[SATURATION]
        sure = (slope * (2 * distances - 1) > 1) & (-slope < -1)
        np.testing.assert_allclose(found, sure.mean(), atol=1 / EXAMPLES / 2)
    assert sure.mean() == 0.5


def test_singular_values_are_those_of_the_kernel_in_use(tiny):
    experiment, state = _start(tiny("discriminator.spectral_norm=True"))
    found = diagnostics.singular_values(state)
    assert {name.split("/")[0] for name in found} == {"generator", "discriminator"}
    # At the start the estimate is one power iteration old; many more make it exact.
    variables = {"params": state.params, **state.collections}
    images = np.zeros((2, *experiment.train.image_shape), np.float32)
    labels = np.zeros(2, np.int32)

    @jax.jit
    def iterate(variables):
        _, changed = experiment.game.apply(
            variables,
            images,
            labels,
            True,
            method=lambda game, *inputs: game.discriminator(*inputs),
            mutable=["spectral"],
        )
        return {**variables, "spectral": {**variables["spectral"], **changed["spectral"]}}

    for _ in range(200):
        variables = iterate(variables)
    exact = diagnostics.singular_values(
        state.replace(collections={"spectral": variables["spectral"]})
    )
    own = {name: value for name, value in exact.items() if name.startswith("discriminator")}
    assert len(own) > 5
    for name, value in own.items():
        np.testing.assert_allclose(value, 1, atol=2e-3, err_msg=name)
    # A kernel that grew since by a half shows.
    grown = {
        **state.params,
        "discriminator": jax.tree.map(lambda leaf: 1.5 * leaf, state.params["discriminator"]),
    }
    later = state.replace(params=grown, collections={"spectral": variables["spectral"]})
    for name, value in diagnostics.singular_values(later).items():
        if name.startswith("discriminator"):
            np.testing.assert_allclose(value, 1.5, atol=3e-3, err_msg=name)


FINE = {DIVERSITY: 0.9, SATURATION: 0.2, f"{SINGULAR}d/a": 1.05}


def _history(*looks):
    return [{"step": 10 * n, **FINE, **look} for n, look in enumerate(looks, 1)]


def test_a_collapse_is_told_when_it_lasts_and_then_no_more():
    bad = {DIVERSITY: 0.01}
    assert diagnostics.warnings(_history({}, {}, {})) == []
    assert diagnostics.warnings(_history(bad)) == []
    assert diagnostics.warnings(_history({}, bad)) == []
    (line,) = diagnostics.warnings(_history({}, bad, bad))
    assert line.startswith("step 30: samples are nearly all alike (watch/diversity 0.010)")
    assert diagnostics.warnings(_history(bad, bad, bad)) == []


def test_each_alarm_has_its_line():
    bad = {SATURATION: 1.0, f"{SINGULAR}d/a": 2.5}
    first, second = diagnostics.warnings(_history({}, bad, bad))
    assert "sure of 100% of the images" in first
    assert "watch/singular_value/d/a is 2.50" in second


def test_a_run_that_collapses_says_so_and_logs_what_it_saw(ring, tmp_path, caplog):
    often = ("steps=6", "run.sample_every=2", "run.log_every=3", "population=1")
    experiment, _ = _start(ring(*often, variant="gan+tiny"))
    nothing = dataclasses.replace(experiment.evaluation, evaluators=dict)
    collapsed = {**FINE, DIVERSITY: 0.01}
    experiment = dataclasses.replace(
        experiment, evaluation=nothing, watch=lambda state: FINE if state.step == 2 else collapsed
    )
    with caplog.at_level(logging.WARNING):
        assert commands.train(experiment, tmp_path) == 0
    (line,) = [record.message for record in caplog.records if "alike" in record.message]
    assert line.startswith("step 6: ")
    history = files.read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in history] == [0, 2, 3, 4, 6]
    assert [line.get(DIVERSITY) for line in history] == [0.01, 0.9, None, 0.01, 0.01]
