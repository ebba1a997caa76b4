"""Schedules: their values, their units, and what they schedule."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gaxn import commands
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.optimizers import make_optimizer
from gaxn.experiment.schedules import make_ema_decay
from gaxn.main import main
from gaxn.objectives import schedules
from gaxn.objectives.schedules import RunLength, constant, cosine, linear, make_schedule
from gaxn.types import InputError

POINTS = ((0.1, 2.0), (0.5, 0.5), (0.6, 3.0), (1.0, 0.0))
RUN_LENGTH = RunLength(1_000, 8)
STEPS = np.arange(1_200)
WHEN, VALUES = np.array(POINTS).T


def _values(curve, steps=STEPS):
    return np.asarray(jax.vmap(make_schedule(curve, RUN_LENGTH))(jnp.asarray(steps)))


def test_a_linear_schedule_is_the_interpolation_of_its_points():
    expected = np.interp(STEPS, WHEN * 1_000, VALUES)
    np.testing.assert_allclose(_values(linear(POINTS)), expected, rtol=1e-5, atol=1e-6)


def test_a_cosine_schedule_goes_in_halves_of_a_cosine():
    index = np.clip(np.searchsorted(WHEN * 1_000, STEPS, side="right") - 1, 0, 2)
    first, last = WHEN[index] * 1_000, WHEN[index + 1] * 1_000
    share = np.clip((STEPS - first) / (last - first), 0, 1)
    expected = (
        VALUES[index + 1] + (VALUES[index] - VALUES[index + 1]) * np.cos(share * np.pi / 2) ** 2
    )
    np.testing.assert_allclose(_values(cosine(POINTS)), expected, rtol=1e-5, atol=1e-5)


def test_a_constant_schedule_jumps_at_its_points():
    index = np.clip(np.searchsorted(WHEN * 1_000, STEPS, side="right") - 1, 0, None)
    np.testing.assert_allclose(_values(constant(POINTS)), VALUES[index])


def test_a_line_is_that_of_optax_bit_for_bit():
    schedule = make_schedule(linear(((0.25, 2e-3), (1.0, 1e-4))), RunLength(8_000, 32))
    of_optax = optax.linear_schedule(2e-3, 1e-4, 6_000, 2_000)
    steps = jnp.arange(0, 9_000, 7)
    np.testing.assert_array_equal(jax.vmap(schedule)(steps), jax.vmap(of_optax)(steps))


@pytest.mark.parametrize(
    ("curve", "updates", "expected"),
    [
        (linear(((0.5, 1.0), (1.0, 0.0))), 1, (500, 1_000)),
        (linear(((0.5, 1.0), (1.0, 0.0))), 5, (2_500, 5_000)),
        (linear(((1, 1.0), (4, 0.0)), unit="kimg"), 1, (125, 500)),
        (linear(((1, 1.0), (4, 0.0)), unit="kimg"), 2, (250, 1_000)),
    ],
)
def test_points_are_shares_of_the_run_or_thousands_of_images(curve, updates, expected):
    schedule = make_schedule(curve, RUN_LENGTH, updates)
    assert tuple(step for step, _ in schedule.points) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(()), r"points must be pairs \(when, value\), got \(\)"),
        (lambda: linear(((0.0, 1.0, 2.0),)), "points must be pairs"),
        (
            lambda: cosine(((0.5, 1.0), (0.5, 2.0))),
            "points must be in ascending order, from 0 to 1",
        ),
        (
            lambda: linear(((0.0, 1.0), (2.0, 2.0))),
            "points must be in ascending order, from 0 to 1",
        ),
        (lambda: linear(((0.0, 1.0),), unit="epoch"), "unit must be share or kimg, got 'epoch'"),
        (
            lambda: make_schedule(linear(((0.0, 1.0), (1e-6, 2.0))), RUN_LENGTH),
            r"points must be at different steps of the run, got \[\(0, 1.0\), \(0, 2.0\)\]",
        ),
    ],
)
def test_points_that_are_no_schedule_are_refused(make, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make()


def test_learning_rate_and_betas_follow_their_schedules():
    """Compares three updates, two of a step, with Adam made anew for each."""
    spec = {
        "name": "adam",
        "learning_rate": {"name": "linear", "points": ((0.0, 0.1), (1.0, 0.0))},
        "b1": {"name": "constant", "points": ((0.0, 0.0), (0.5, 0.5))},
    }
    optimizer = make_optimizer(spec, "generator", RunLength(2, 8), updates_per_step=2)
    params = {"w": jnp.array([1.0, -2.0])}
    state, moments = optimizer.init(params), [np.zeros(2), np.zeros(2)]
    for count in range(4):
        gradient = np.array([1.0 + count, 0.5])
        updates, state = optimizer.update({"w": jnp.asarray(gradient, jnp.float32)}, state, params)
        b1, b2, rate = (0.0, 0.0, 0.5, 0.5)[count], 0.999, 0.1 * (1 - count / 4)
        moments = [b1 * moments[0] + (1 - b1) * gradient, b2 * moments[1] + (1 - b2) * gradient**2]
        mean, square = (m / (1 - b ** (count + 1)) for m, b in zip(moments, (b1, b2), strict=True))
        expected = -rate * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(updates["w"], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule, updates", [("alternating", 1), ("extragradient", 2)])
def test_a_learning_rate_follows_the_steps_of_the_run(ring, rule, updates):
    rate = {"name": "constant", "points": ((0.0, 1.0), (0.5, 0.0))}
    optimizers = {
        player: {"name": "sgd", "learning_rate": rate} for player in ("generator", "discriminator")
    }
    flags = f"optimizers={optimizers}", f"update_rule.name={rule}", "num_train_steps=4"
    config = ring("population=1", *flags, variant="gan+tiny")
    for update in make_experiment(config, "ring").updates:
        state, moves = update.optimizer.init(jnp.ones(())), []
        for _ in range(4 * updates):
            move, state = update.optimizer.update(jnp.ones(()), state)
            moves.append(float(move))
        assert moves == [-1.0] * 2 * updates + [0.0] * 2 * updates


def _step(config, steps):
    """Returns the scalars of some training steps, and the states before and after each."""
    experiment = make_experiment(config, "ring", sharding.jit_parallelism(jax.devices()[:1]))
    states, scalars = [experiment.create_state(experiment.key)], []
    for step in range(steps):
        before = jax.tree.map(jnp.copy, states[-1])
        state, new = experiment.compiled_step(before, experiment.batches(step), experiment.key)
        states.append(jax.device_get(state))
        scalars.append(jax.device_get(new))
    return states, scalars


@pytest.mark.slow
def test_weights_of_penalties_follow_their_schedule(ring):
    schedule = "{'name': 'constant', 'points': ((0.0, 0.0), (0.5, 2.0))}"
    options = "population=1", "num_train_steps=4", f"penalties.r1.weight={schedule}"
    _, scalars = _step(ring(*options, variant="hinge+tiny"), 4)
    for step, line in enumerate(scalars):
        weight = 0.0 if step < 2 else 2.0
        total = line["d/adversarial"] + weight * line["d/r1"]
        np.testing.assert_allclose(line["d/loss"], total, rtol=1e-5)
        assert line["d/r1"] > 0


@pytest.mark.slow
def test_the_moving_average_follows_its_schedule(ring):
    schedule = "{'name': 'constant', 'points': ((0.0, 0.0), (0.5, 0.05))}"
    options = "population=1", "num_train_steps=4", f"ema_decay={schedule}"
    states, _ = _step(ring(*options, variant="gan+tiny"), 4)
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        decay = 0.0 if step < 2 else 0.05
        for old, new, average in zip(
            *map(jax.tree.leaves, (before.ema, after.params["generator"], after.ema)), strict=True
        ):
            np.testing.assert_allclose(average, decay * old + (1 - decay) * new, atol=1e-6)


def test_each_image_is_augmented_with_the_probability_of_its_step(tiny):
    schedule = "{'name': 'linear', 'points': ((0.0, 0.0), (1.0, 1.0))}"
    config = tiny(
        f"objective.augmentation_probability={schedule}",
        "augmentations={'color': {}}",
        "num_train_steps=100",
    )
    gan = make_experiment(config, "tiny", sharding.jit_parallelism(jax.devices()[:1])).gan
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2_000, 8, 8, 3)), jnp.float32)

    @jax.jit
    def augment(step):
        return gan.apply(
            {"params": {}},
            images,
            jax.random.key(0),
            jnp.arange(2_000),
            step,
            method=lambda gan, *inputs: gan.discriminator_objective._augment(*inputs),
        )

    for step in (0, 30, 100):
        changed = (np.asarray(augment(jnp.int32(step))) != images).any(axis=(1, 2, 3)).mean()
        assert abs(changed - step / 100) < 0.04


def test_fields_with_shares_of_the_run_are_listed():
    config = {
        "ema_decay": {"name": "linear", "points": ((0, 0.5),), "unit": "kimg"},
        "optimizers": {"generator": {"learning_rate": {"name": "linear", "points": ((0, 0.5),)}}},
        "data": {"name": "shapes"},
    }
    assert schedules.shared_fields(config) == ["config.optimizers.generator.learning_rate"]


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["share", "kimg"])
def test_a_run_changes_its_length_only_without_shares_of_it(ring, tmp_path, capsys, unit):
    schedule = f"{{'name': 'linear', 'points': ((0, 1e-3), (1, 1e-4)), 'unit': '{unit}'}}"
    options = (
        f"optimizers.generator.learning_rate={schedule}",
        "population=1",
        "evaluation.samples=20",
        "evaluation.metrics=('modes',)",
    )
    for steps in (2, 4):
        config = ring(*options, f"num_train_steps={steps}", variant="gan+tiny")
        experiment = make_experiment(config, "ring")
        if steps == 4 and unit == "share":
            message = (
                f"config.num_train_steps must be 2 in {tmp_path}, as "
                r"config.optimizers.generator.learning_rate is a schedule over the run .*, got 4"
            )
            with pytest.raises(InputError, match=message):
                commands.train(experiment, tmp_path)
        else:
            assert commands.train(experiment, tmp_path) == 0


def test_an_old_decay_and_wrong_schedules_are_one_line(tmp_path, capsys):
    config = "--config=configs/attn_cgan_shapes.py:tiny", f"--workdir={tmp_path / 'run'}"
    rate = "config.optimizers.generator"
    for flag, message in (
        (
            "{'name': 'adam', 'learning_rate': 1e-3, 'decay': {'begin': 1}}",
            f"{rate}.decay is a part of {rate}.learning_rate since gaxn 0.3",
        ),
        (
            "{'name': 'adam', 'learning_rate': {'name': 'line', 'points': ((0, 1e-3),)}}",
            f"{rate}.learning_rate.name must be one of linear, ",
        ),
        (
            "{'name': 'adam', 'learning_rate': {'name': 'linear', 'points': ((0, -1e-3),)}}",
            f"{rate}.learning_rate must be a number above 0, got [-0.001]",
        ),
        (
            "{'name': 'adam', 'learning_rate': {'name': 'linear', 'points': ((2, 1e-3),)}}",
            f"{rate}.learning_rate.points must be in ascending order, from 0 to 1",
        ),
    ):
        assert main(["gaxn", *config, f"--{rate}={flag}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line, line


def test_a_half_life_is_a_decay_of_as_many_images(tiny):
    run_length = schedules.RunLength(100, 32)

    def decay(halflife, ema_decay=0.5):
        settings = SimpleNamespace(
            ema_decay=ema_decay, ema_halflife_kimg=halflife, batch_size=run_length.batch_size
        )
        return make_ema_decay(settings, run_length)

    assert decay(0.0) == 0.5
    # After 10,000 images of batches of 32, a half is left.
    np.testing.assert_allclose(decay(10.0) ** (10_000 / 32), 0.5, rtol=1e-9)
    growing = decay({"name": "linear", "points": ((0, 0.0), (1, 10.0)), "unit": "kimg"})
    steps = np.array([0, 10, 31, 90])
    kimg = np.minimum(steps / 31, 1) * 10
    with np.errstate(divide="ignore"):
        expected = 0.5 ** (32 / (1_000 * kimg))
    values = [float(growing(jnp.int32(step))) for step in steps]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    for wrong in (-1.0, {"name": "linear", "points": ((0, 1.0), (1, -1.0))}):
        with pytest.raises(InputError, match="ema_halflife_kimg must be above 0, or 0 for"):
            decay(wrong)
    config = tiny()
    config.ema_halflife_kimg = 0.5
    make_experiment(config, "tiny")
