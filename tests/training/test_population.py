"""Populations: every member is the run of its own seed, on any devices, stopped or not."""

import json

import jax
import numpy as np
import pytest

from gaxn import commands
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.training import restore
from gaxn.training.population import member_state
from gaxn.types import InputError


def _train(config, parallelism, steps=6):
    experiment = make_experiment(config, "ring", parallelism)
    state = parallelism.place(jax.device_get(experiment.create_state(experiment.key)))
    for step in range(steps):
        state, _ = experiment.compiled_step(state, experiment.batches(step), experiment.key)
    return parallelism.to_host(state)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["gan", "r3gan"])
def test_each_member_is_its_own_single_run(ring, row):
    device = jax.devices()[:1]
    config = ring("population=3", "seed=5", variant=f"{row}+tiny")
    population = _train(config, sharding.population_parallelism(device, 3))
    for index in range(3):
        single = ring("population=1", f"seed={5 + index}", variant=f"{row}+tiny")
        alone = _train(single, sharding.jit_parallelism(device))
        # Products of several members are summed in another order than those of one; Adam makes
        # as much of a rounding near 0 as of a gradient.
        member = member_state(population, 3, index)
        for a, b in zip(jax.tree.leaves(member), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_first_step_of_a_member_has_its_own_key_and_data(ring):
    config = ring("population=3")
    state = _train(config, sharding.population_parallelism(jax.devices()[:1], 3), steps=1)
    kernels = state.params["generator"]["Dense_0"]["kernel"]
    assert kernels.shape[0] == 3
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[1], kernels[2])


@pytest.mark.slow
def test_the_number_of_devices_does_not_matter(ring):
    config = ring("population=4")
    one, four = (
        _train(config, sharding.population_parallelism(jax.devices()[:count], 4))
        for count in (1, 4)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def run(ring, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("population")
    assert commands.train(make_experiment(ring(), "ring"), workdir) == 0
    return workdir


def test_an_evaluation_is_the_mean_over_members_with_its_standard_error(run):
    report = json.loads((run / "evaluation.json").read_text())["modes"]
    assert report["protocol"]["errors"] == "standard errors of the mean over 2 seeds"
    assert report["protocol"]["seed"] == "0 to 1"
    assert report["protocol"]["quantized"] == "no"
    for name in ("frechet_distance", "modes", "modes_quality"):
        a, b = report["tables"]["members"][name]
        np.testing.assert_allclose(report["figures"][name], (a + b) / 2)
        # Of two values: half their difference.
        np.testing.assert_allclose(report["figures"][f"{name}_error"], abs(a - b) / 2, atol=1e-12)
    assert {path.name for path in run.iterdir()} >= {"samples.gif", "curves.png", "checkpoints"}


@pytest.mark.slow
def test_it_goes_on_bit_for_bit(ring, run, tmp_path):
    assert commands.train(make_experiment(ring("num_train_steps=4"), "ring"), tmp_path) == 0
    assert commands.train(make_experiment(ring(), "ring"), tmp_path) == 0
    experiment = make_experiment(ring(), "ring")
    first, second = (
        restore.restore_state(experiment, workdir, "last") for workdir in (run, tmp_path)
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_cost_of_a_step_is_that_of_one_member(ring):
    # Under pmap: XLA counts -1 operation for each sharding constraint of a jitted step.
    one = make_experiment(ring("population=1", "parallel=pmap"), "ring")
    assert one.cost() == make_experiment(ring("population=2"), "ring").cost()


def test_the_grid_is_the_ring_with_other_modes(ring):
    config = ring(name="grid", variant="short+wgan_gp")
    assert len(config.data.centers) == 25 and config.data.deviation == 0.05
    assert config.population == 4 and config.penalties.wgan_gp.weight == 0.1
    assert config.generator.widths == (400, 400)
    full, short = (ring(name="grid", variant=f"pacgan4{form}") for form in ("", "+short"))
    assert full.generator.widths == (400, 400, 400, 400)
    assert (full.batch_size, short.batch_size) == (400, 100)


@pytest.mark.parametrize(
    "override, message",
    [
        ("population=0", "config.population must be 1 or more, got 0"),
        ("conditional=True", "config.conditional must be False with points, got True"),
        (
            "objective.packing=3",
            "config.objective.packing must be a divisor of the 8 examples, .*, got 3",
        ),
        ("objective.packing=0", "config.objective.packing must be 1 or more, got 0"),
    ],
)
def test_mistakes_are_one_line(ring, override, message):
    with pytest.raises(InputError, match=message):
        make_experiment(ring(override), "ring")


def test_labels_are_not_packed(tiny):
    config = tiny("objective.packing=2")
    with pytest.raises(
        InputError, match=r"config.objective.packing must be .* 1 with labels, got 2"
    ):
        make_experiment(config, "tiny")


def test_an_unknown_variant_is_one_line(ring):
    message = "the variant must be one of pacgan., .*, got 'pacgan3'"
    with pytest.raises(InputError, match=message):
        ring(variant="pacgan3+short")
