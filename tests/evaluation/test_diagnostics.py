"""Diagnostics have the values that they are defined by; a lasting collapse is logged once."""

import dataclasses
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial

from gaxn import commands
from gaxn.data import make_reader
from gaxn.distributed import sharding
from gaxn.evaluation import diagnostics
from gaxn.evaluation.diagnostics import DIVERSITY, EXAMPLES, SATURATION, SINGULAR_VALUE
from gaxn.evaluation.kinds.gan import make_diagnostics
from gaxn.experiment import make_experiment
from gaxn.gans.gan import GAN
from gaxn.io import files
from gaxn.objectives import losses
from gaxn.objectives.objective import make_objective
from gaxn.training.state import TrainState


@pytest.fixture(scope="module")
def start(tiny):
    """The small experiment and its first state."""
    return _start(tiny())


def _start(config):
    """Returns an experiment on one device, and its first state."""
    experiment = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1]))
    return experiment, jax.device_get(experiment.create_state(experiment.key))


def _scale(state, player, factor):
    """Returns a state with all parameters of a player multiplied by a factor."""
    params = jax.tree.map(lambda leaf: factor * leaf, state.params[player])
    return state.replace(params={**state.params, player: params})


def test_diversity_is_zero_for_a_generator_of_one_image(start):
    experiment, state = start
    assert experiment.diagnostics(state)[DIVERSITY] > 0.01
    assert experiment.diagnostics(_scale(state, "generator", 0))[DIVERSITY] < 1e-6


def test_the_mean_distance_is_over_all_pairs_of_images(start):
    experiment, _ = start
    images = np.asarray(make_reader(experiment.train_source)(np.arange(10)).images) / 127.5 - 1
    expected = scipy.spatial.distance.pdist(images.reshape(10, -1)).mean()
    np.testing.assert_allclose(diagnostics._mean_distance(images), expected, rtol=1e-5)


class GrayGenerator(nn.Module):
    """A generator of mid-gray images."""

    @nn.compact
    def __call__(self, latents, labels, train):
        shade = self.param("shade", nn.initializers.zeros, ())
        return jnp.broadcast_to(shade, (latents.shape[0], 32, 32, 3))


class ContrastDiscriminator(nn.Module):
    """A discriminator whose logit is linear in an image's mean distance from mid-gray."""

    slope: float

    @nn.compact
    def __call__(self, images, labels, train):
        bias = self.param("bias", nn.initializers.constant(-self.slope), ())
        return 2 * self.slope * jnp.abs(images).mean(axis=(1, 2, 3)) + bias


def test_a_discriminator_is_saturated_where_its_loss_is_flat(start):
    experiment, _ = start
    indices = np.random.RandomState(0).permutation(len(experiment.train_source))[:EXAMPLES]
    images = make_reader(experiment.train_source)(indices).images
    distances = np.abs(np.asarray(images, np.float64) / 127.5 - 1).mean(axis=(1, 2, 3))
    threshold = np.median(distances)
    # Hinge: flat where the real logit is above 1 and the other, here the bias, below -1.
    for slope in (0.5, 1 / (2 * threshold - 1)):
        loss = losses.hinge()
        objective = make_objective(loss, {}, {}, ())
        gan = GAN(
            GrayGenerator(),
            ContrastDiscriminator(slope),
            objective,
            latent_size=1,
            conditional=False,
        )
        diagnose = make_diagnostics(gan, loss, experiment.members, experiment.train_source, False)
        params = {"generator": {"shade": 0.0}, "discriminator": {"bias": -slope}}
        saturation = diagnose(TrainState(0, params, {}, {}, {}))[SATURATION]
        is_flat = (slope * (2 * distances - 1) > 1) & (-slope < -1)
        np.testing.assert_allclose(saturation, is_flat.mean(), atol=1 / EXAMPLES / 2)
    assert is_flat.mean() == 0.5


@pytest.mark.slow
def test_singular_values_are_those_of_the_normalized_kernels(tiny):
    experiment, state = _start(tiny("discriminator.spectral_norm=True"))
    players = {name.split("/")[0] for name in diagnostics.singular_values(state)}
    assert players == {"generator", "discriminator"}
    # At the start the estimate is one power iteration old; many more make it exact.
    variables = {"params": state.params, **state.collections}
    images = np.zeros((2, *experiment.train_source.image_shape), np.float32)
    labels = np.zeros(2, np.int32)

    @jax.jit
    def iterate(variables):
        _, collections = experiment.gan.apply(
            variables,
            images,
            labels,
            True,
            method=lambda gan, *inputs: gan.discriminator(*inputs),
            mutable=["spectral"],
        )
        return {**variables, "spectral": {**variables["spectral"], **collections["spectral"]}}

    for _ in range(200):
        variables = iterate(variables)

    def values_of_discriminator(state):
        values = diagnostics.singular_values(state)
        return {name: value for name, value in values.items() if name.startswith("discriminator")}

    exact = state.replace(collections={"spectral": variables["spectral"]})
    assert len(values_of_discriminator(exact)) > 5
    for name, value in values_of_discriminator(exact).items():
        np.testing.assert_allclose(value, 1, atol=2e-3, err_msg=name)
    # The estimate is of the kernel as it is, not as it was at the last iteration.
    for name, value in values_of_discriminator(_scale(exact, "discriminator", 1.5)).items():
        np.testing.assert_allclose(value, 1, atol=2e-3, err_msg=name)
    # From another vector it is that of a layer in eval mode, which divides by less than the norm.
    for name, value in values_of_discriminator(state).items():
        assert value > 0.999, name


HEALTHY = {DIVERSITY: 0.9, SATURATION: 0.2, f"{SINGULAR_VALUE}d/a": 1.05}
COLLAPSED = {**HEALTHY, DIVERSITY: 0.01}


def _history(*diagnoses):
    return [{"step": 10 * n, **HEALTHY, **figures} for n, figures in enumerate(diagnoses, 1)]


def test_a_collapse_is_reported_once_when_it_lasts_for_two_diagnoses():
    assert diagnostics.warnings(_history({}, {}, {})) == []
    assert diagnostics.warnings(_history(COLLAPSED)) == []
    assert diagnostics.warnings(_history({}, COLLAPSED)) == []
    (line,) = diagnostics.warnings(_history({}, COLLAPSED, COLLAPSED))
    assert line.startswith("step 30: samples are almost identical (diagnostics/diversity 0.010)")
    assert diagnostics.warnings(_history(COLLAPSED, COLLAPSED, COLLAPSED)) == []


def test_each_problem_has_its_line():
    problems = {SATURATION: 1.0, f"{SINGULAR_VALUE}d/a": 2.5}
    first, second = diagnostics.warnings(_history({}, problems, problems))
    assert "certain of 100% of the images" in first
    assert "diagnostics/singular_value/d/a is 2.50" in second


def test_a_run_logs_its_diagnostics_and_warns_of_a_collapse(ring, tmp_path, caplog):
    often = ("num_train_steps=6", "run.sample_every=2", "run.log_every=3", "population=1")
    experiment, _ = _start(ring(*often, variant="gan+tiny"))
    experiment = dataclasses.replace(
        experiment,
        evaluation=dataclasses.replace(experiment.evaluation, evaluators=dict),
        diagnostics=lambda state: HEALTHY if state.step == 2 else COLLAPSED,
    )
    with caplog.at_level(logging.WARNING):
        assert commands.train(experiment, tmp_path) == 0
    (line,) = [record.message for record in caplog.records if "identical" in record.message]
    assert line.startswith("step 6: ")
    history = files.read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in history] == [0, 2, 3, 4, 6]
    assert [line.get(DIVERSITY) for line in history] == [0.01, 0.9, None, 0.01, 0.01]
