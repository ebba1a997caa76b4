"""Calls of several steps: the same steps, at fixed borders, on any devices."""

import json

import jax
import numpy as np
import pytest

from gaxn import commands
from gaxn.data.pipeline import Batches
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.objectives.penalties import r1, r2, zero_centered
from gaxn.training import dispatch, loop, restore
from gaxn.types import InputError


def _split(first, last, steps_per_call, *intervals, borders=()):
    calls = dispatch.split_steps(first, last, steps_per_call, intervals, borders)
    return [(steps.start, steps.stop) for steps in calls]


def test_calls_have_fixed_borders():
    assert _split(0, 10, 4, 100) == [(0, 4), (4, 8), (8, 9), (9, 10)]
    assert _split(5, 16, 4, 100) == [(5, 6), (6, 7), (7, 8), (8, 12), (12, 16)]
    assert _split(0, 3, 1, 2) == [(0, 1), (1, 2), (2, 3)]


def test_a_call_ends_where_the_state_is_needed():
    # After step 6, within 4 to 8; after step 12, at the end of 8 to 12.
    assert _split(0, 12, 4, 6) == [(0, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 12)]
    for steps_per_call in range(1, 9):
        for intervals in ((3,), (5, 7), (4, 6)):
            calls = _split(0, 60, steps_per_call, *intervals)
            assert [step for start, stop in calls for step in range(start, stop)] == list(range(60))
            ends = {stop for _, stop in calls}
            assert {n for n in range(1, 61) if any(n % every == 0 for every in intervals)} <= ends
            # A run that goes on from the end of any call has the same calls.
            for number, (start, _) in enumerate(calls):
                assert _split(start, 60, steps_per_call, *intervals) == calls[number:]


def test_a_call_ends_where_other_programs_begin():
    calls = _split(0, 16, 4, 100, borders=(0, 6, 12))
    assert calls == [(0, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 12), (12, 16)]
    assert _split(6, 16, 4, 100, borders=(0, 6, 12)) == calls[3:]


@pytest.mark.parametrize(
    "backend, is_resident, has_convolutions, num_train_steps, intervals, expected",
    [
        ("cpu", True, True, 10_000, (500, 1_000), 1),
        ("cpu", True, False, 10_000, (500, 1_000), 25),
        ("gpu", False, True, 10_000, (500, 1_000), 1),
        ("gpu", True, True, 10_000, (500, 1_000), 25),
        ("gpu", True, True, 60, (500, 1_000), 5),
        ("gpu", True, True, 6, (4, 4), 1),
        ("tpu", True, True, 10_000, (96, 64), 32),
        ("tpu", True, True, 10_000, (7,), 7),
        ("gpu", True, True, 10_000, (37,), 1),
    ],
)
def test_the_steps_of_a_call_suit_the_run(
    backend, is_resident, has_convolutions, num_train_steps, intervals, expected
):
    steps = dispatch.choose_steps_per_call(
        backend, is_resident, has_convolutions, num_train_steps, intervals
    )
    assert steps == expected


PLAYERS = "generator", "discriminator"

PARALLELISMS = {
    "1 device": (1, lambda: sharding.jit_parallelism(jax.devices()[:1])),
    "2 devices": (1, lambda: sharding.jit_parallelism(jax.devices()[:2])),
    "2 pmapped": (1, lambda: sharding.pmap_parallelism(jax.devices()[:2])),
    "2 split": (1, lambda: sharding.jit_parallelism(jax.devices()[:2], 2)),
    "3 members": (3, lambda: sharding.population_parallelism(jax.devices()[:1], 3)),
    "4 members on 2 devices": (4, lambda: sharding.population_parallelism(jax.devices()[:2], 4)),
}


DEFAULT = "2 devices", "3 members"


@pytest.mark.parametrize(
    "name",
    [
        name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow)
        for name in PARALLELISMS
    ],
)
def test_a_call_of_several_steps_makes_the_steps_of_several_calls(ring, monkeypatch, name):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 2)
    members, make = PARALLELISMS[name]
    sgd = {"name": "sgd", "learning_rate": 1e-2}
    config = ring(
        f"population={members}",
        "steps_per_call=3",
        f"optimizers={dict.fromkeys(PLAYERS, sgd)}",
        variant="hinge+tiny",
    )
    experiment = make_experiment(config, "ring", make())
    parallelism, start = experiment.parallelism, experiment.create_state(experiment.key)
    key, start = parallelism.place_key(experiment.key), jax.device_get(start)
    one_by_one, each = parallelism.place(start), []
    for step in range(3):
        one_by_one, scalars = experiment.dispatch.advance(one_by_one, range(step, step + 1), key)
        each.append(parallelism.to_host(scalars))
    at_once, scalars = experiment.dispatch.advance(parallelism.place(start), range(3), key)
    expected = parallelism.to_host(one_by_one), jax.tree.map(lambda *x: np.stack(x), *each)
    actual = parallelism.to_host(at_once), parallelism.to_host(scalars)
    assert not np.allclose(
        start.params["generator"]["Dense_0"]["kernel"],
        actual[0].params["generator"]["Dense_0"]["kernel"],
    )
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def _history(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: x for name, x in line.items() if "second" not in name} for line in lines]


def test_a_run_that_is_stopped_goes_on_bit_for_bit(ring, tmp_path, monkeypatch):
    flags = "steps_per_call=3", "num_train_steps=12", "population=1", "run.log_every=1"
    config = ring(*flags, "run.checkpoint_every=6", "run.sample_every=6")

    def run(workdir):
        return commands.train(make_experiment(config, "ring"), workdir)

    at_once, in_parts = tmp_path / "at once", tmp_path / "in parts"
    assert run(at_once) == 0
    with monkeypatch.context() as patched:
        patched.setattr(loop.Signals, "should_stop", lambda _: True)
        run(in_parts)
        assert [line["step"] for line in _history(in_parts)] == list(range(4))
    assert run(in_parts) == 0
    experiment = make_experiment(config, "ring")
    states = (restore.restore_state(experiment, place, "last") for place in (at_once, in_parts))
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert [line["step"] for line in _history(at_once)] == list(range(13))
    assert _history(at_once) == _history(in_parts)


def test_the_step_of_a_scalar_that_is_not_finite_is_named(ring, tmp_path):
    config = ring(
        "steps_per_call=3",
        "population=1",
        "run.log_every=1",
        f"optimizers={ {p: {'name': 'sgd', 'learning_rate': 1e30} for p in PLAYERS} }",
    )
    with pytest.raises(InputError, match=r"^d/\w+ must be finite, got (nan|inf) at step 2;"):
        commands.train(make_experiment(config, "ring"), tmp_path)


def test_examples_that_are_read_ahead_are_one_step_a_call():
    def make(steps_per_call):
        read_ahead = Batches(lambda step: None, resident=None)
        return dispatch.make_dispatch([], read_ahead, None, True, steps_per_call, 3, [2])

    assert [len(steps) for steps in make(0).calls(0)] == [1, 1, 1]
    with pytest.raises(InputError) as error:
        make(2)
    assert str(error.value) == (
        "config.steps_per_call must be 0 or 1 where the images exceed data.resident_bytes, got 2"
    )


def test_the_host_chooses_the_program_of_a_lazy_penalty(ring):
    flags = "population=1", "penalties.r1.interval=2"
    experiment = make_experiment(ring(*flags, variant="hinge+tiny"), "ring")
    key, place = experiment.parallelism.place_key(experiment.key), experiment.parallelism.place
    start = jax.device_get(experiment.create_state(experiment.key))
    by_host, by_device = place(start), place(start)
    for step in range(3):
        by_host, scalars = experiment.dispatch.advance(by_host, range(step, step + 1), key)
        by_device, expected = experiment.compiled_step(by_device, experiment.batches(step), key)
        for name, value in scalars.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-6, err_msg=name)
    for a, b in zip(jax.tree.leaves(by_host), jax.tree.leaves(by_device), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_only_lazy_penalties_have_programs_of_their_own():
    programs = dispatch.choose_by_penalties({"r1": r1(1.0)}, "one", lambda fixed: "another")
    assert programs(0) == programs(1) == "one"
    penalties = {"r1": r1(1.0, interval=2), "r2": r2(1.0, interval=3), "0-GP": zero_centered(1.0)}
    compiled = []

    def compile_with(fixed):
        compiled.append({name: penalty.due for name, penalty in fixed.items()})
        return tuple(compiled[-1].values())

    programs = dispatch.choose_by_penalties(penalties, "one", compile_with)
    due = [(step % 2 == 0, step % 3 == 0, True) for step in range(12)]
    assert [programs(step) for step in range(12)] == due
    assert len(compiled) == 4
