"""Populations: every member is the run of its own seed, on any devices, stopped or not."""

import json

import jax
import numpy as np
import pytest

from gaxn import commands
from gaxn.experiment import make_experiment
from gaxn.distributed import sharding
from gaxn.evaluation import reports
from gaxn.training.population import member_of
from gaxn.types import InputError


def _trained(config, placement, steps=6):
    experiment = make_experiment(config, "ring", placement)
    program = placement.step(experiment.step)
    state = placement.place(jax.device_get(experiment.create(experiment.key)))
    for step in range(steps):
        state, _ = program(state, experiment.feed(step), experiment.key)
    return placement.to_host(state)


@pytest.mark.parametrize("row", [pytest.param("gan", marks=pytest.mark.slow), "r3gan"])
def test_each_member_is_its_own_single_run(ring, row):
    device = jax.devices()[:1]
    config = ring("population=3", "seed=5", variant=f"{row}+tiny")
    together = _trained(config, sharding.populated(device, 3))
    for index in range(3):
        single = ring("population=1", f"seed={5 + index}", variant=f"{row}+tiny")
        alone = _trained(single, sharding.jitted(device))
        # Products of several members are summed in another order than those of one; Adam makes
        # as much of a rounding near 0 as of a gradient.
        for a, b in zip(
            jax.tree.leaves(member_of(together, 3, index)), jax.tree.leaves(alone), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_first_step_of_a_member_has_its_own_key_and_data(ring):
    config = ring("population=3")
    state = _trained(config, sharding.populated(jax.devices()[:1], 3), steps=1)
    kernels = state.params["generator"]["Dense_0"]["kernel"]
    assert kernels.shape[0] == 3
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[1], kernels[2])


def test_the_number_of_devices_does_not_matter(ring):
    config = ring("population=4")
    one, four = (_trained(config, sharding.populated(jax.devices()[:count], 4)) for count in (1, 4))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def run(ring, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("population")
    assert commands.train(make_experiment(ring(), "ring"), workdir) == 0
    return workdir


def test_an_evaluation_is_the_mean_over_members_with_its_standard_error(run):
    found = json.loads((run / "evaluation.json").read_text())["modes"]
    assert found["protocol"]["errors"] == "standard errors of the mean over 2 seeds"
    assert found["protocol"]["seed"] == "0 to 1"
    assert found["protocol"]["quantized"] == "no"
    for name in ("frechet_distance", "modes", "modes_quality"):
        a, b = found["tables"]["members"][name]
        np.testing.assert_allclose(found["figures"][name], (a + b) / 2)
        # Of two values: half their difference.
        np.testing.assert_allclose(found["figures"][f"{name}_error"], abs(a - b) / 2, atol=1e-12)
    assert {path.name for path in run.iterdir()} >= {"samples.gif", "curves.png", "checkpoints"}


def test_it_goes_on_bit_for_bit(ring, run, tmp_path):
    assert commands.train(make_experiment(ring("num_train_steps=4"), "ring"), tmp_path) == 0
    assert commands.train(make_experiment(ring(), "ring"), tmp_path) == 0
    first, second = (
        commands._restored(make_experiment(ring(), "ring"), workdir, "last") for workdir in (run, tmp_path)
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_what_a_step_costs_is_said_of_one_member(ring):
    one, two = (make_experiment(ring(f"population={count}"), "ring") for count in (1, 2))
    assert reports.costs(one) == reports.costs(two)


def test_the_grid_is_the_ring_with_other_modes(ring):
    config = ring(name="grid", variant="short+wgan_gp")
    assert len(config.data.centers) == 25 and config.data.deviation == 0.05
    assert config.population == 4 and config.penalties.wgan_gp == 0.1
    assert config.generator.widths == (400, 400)
    full, short = (ring(name="grid", variant=f"pacgan4{form}") for form in ("", "+short"))
    assert full.generator.widths == (400, 400, 400, 400)
    assert (full.batch, short.batch) == (400, 100)


@pytest.mark.parametrize(
    "override, message",
    [
        ("population=0", "config.population is 0; valid is 1 or more"),
        ("conditional=True", "config.conditional is True; valid is False with points"),
        (
            "objective.packing=3",
            "config.objective.packing is 3; valid is a divisor of the 8 examples",
        ),
        ("objective.packing=0", "config.objective.packing is 0"),
    ],
)
def test_mistakes_are_told(ring, override, message):
    with pytest.raises(InputError, match=message):
        make_experiment(ring(override), "ring")


def test_labels_are_not_packed(tiny):
    config = tiny("objective.packing=2")
    with pytest.raises(InputError, match="and 1 with labels"):
        make_experiment(config, "tiny")


def test_a_variant_that_is_none_is_told(ring):
    with pytest.raises(InputError, match="variant is 'pacgan3'; this config has pacgan"):
        ring(variant="pacgan3+short")
