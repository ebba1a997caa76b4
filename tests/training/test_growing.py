"""Training of networks that grow: which layers move, by how much, and what resumed runs do."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from gaxn import commands
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.optimizers import make_optimizer
from gaxn.objectives.schedules import RunLength
from gaxn.training import growing, loop, restore
from gaxn.training.growing import GrowingOptions, at_stage, make_growth
from gaxn.training.step import compute_gradients, moving_average
from gaxn.types import InputError

RATE = 0.01
PLAYERS = "generator", "discriminator"
SMALL = (
    "data.size=16",
    "gan.latent_size=4",
    "generator={'name': 'sagan.Generator', 'first': 8, 'widths': (8,), 'attention_at': ()}",
    "discriminator={'name': 'sagan.Discriminator', 'widths': (8, 8), 'attention_at': ()}",
    "growing={'resolutions': (8, 16), 'steps': (2,), 'fade_steps': 2}",
    "penalties={}",
    "ema_decay=0.9",
)
"""A run of 8 pixels for two steps, a fade of two steps, and 16 pixels from step 4 on."""

NEW = {
    "generator": (("to_8",), ("TransposedConvolution_0",), ("bias",)),
    "discriminator": (("to_8",), ("to_4",)),
}
OLD = {"generator": (("image_8",),), "discriminator": (("from_8",),)}
"""Layers that come with the fade, and those that go after it."""

ADAM = f"optimizers={ {p: {'name': 'adam', 'learning_rate': RATE, 'b1': 0.0} for p in PLAYERS} }"
SGD = f"optimizers={ {p: {'name': 'sgd', 'learning_rate': 1e-2} for p in PLAYERS} }"


def _make(tiny, *overrides, parallelism=None):
    parallelism = parallelism or sharding.jit_parallelism(jax.devices()[:1])
    return make_experiment(tiny(*SMALL, *overrides), "tiny", parallelism)


def _run(experiment, state, steps):
    """Returns the host states after each of some steps, one a call."""
    parallelism, states = experiment.parallelism, []
    key, state = parallelism.place_key(experiment.key), parallelism.place(state)
    for step in steps:
        state, _ = experiment.dispatch.advance(state, range(step, step + 1), key)
        states.append(parallelism.to_host(state))
    return states


def _start(experiment):
    return jax.device_get(experiment.create_state(experiment.key))


def _select(tree, paths):
    """Returns the leaves of some layers by their paths."""
    flat = flatten_dict(tree)
    chosen = {path: leaf for path, leaf in flat.items() if any(path[: len(p)] == p for p in paths)}
    assert chosen
    return chosen


def _assert_equal(before, after, paths):
    chosen = _select(after, paths)
    for path, leaf in _select(before, paths).items():
        np.testing.assert_array_equal(leaf, chosen[path])


def _adam(state, player, layer):
    """Returns count and moments of the group of a layer."""
    for masked in state.opt_state[player].inner_states.values():
        for part in jax.tree.leaves(
            masked, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState)
        ):
            if isinstance(part, optax.ScaleByAdamState):
                flat = flatten_dict(part.mu)
                if any(
                    path[: len(layer)] == layer and hasattr(leaf, "size")
                    for path, leaf in flat.items()
                ):
                    return part
    raise AssertionError(f"{layer} has no optimizer state")


# Two updates of the discriminator, micro-batches and a lazy penalty change nothing of it.
FURTHER = (
    "discriminator_steps=2",
    "accumulation_steps=2",
    "penalties={'r1': {'weight': 1.0, 'interval': 2}}",
)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), FURTHER])
def test_only_layers_that_are_there_move_each_from_adams_first_step_on(tiny, flags):
    experiment = _make(tiny, ADAM, *flags)
    before = _start(experiment)
    states = [before, *_run(experiment, before, range(6))]
    updates = {"generator": 1, "discriminator": 2 if flags else 1}
    for player in PLAYERS:
        new, old = NEW[player], OLD[player]
        for state in states[1:3]:
            _assert_equal(before.params[player], state.params[player], new)
            if player == "generator":
                _assert_equal(before.ema, state.ema, new)
            adam = _adam(state, player, new[0])
            assert adam.count == 0
            assert not any(np.any(leaf) for leaf in jax.tree.leaves((adam.mu, adam.nu)))
        _assert_equal(states[4].params[player], states[6].params[player], old)
        assert _adam(states[6], player, old[0]).count == 4 * updates[player]
        assert _adam(states[6], player, new[0]).count == 4 * updates[player]
        base = ("Dense_0",)
        assert _adam(states[6], player, base).count == 6 * updates[player]
        for number, (first, second) in enumerate(itertools.pairwise(states)):
            moving = [base, *(new if number >= 2 else ()), *(old if number < 4 else ())]
            moved = [
                np.abs(_select(second.params[player], [layer])[path] - leaf).max()
                for layer in moving
                for path, leaf in _select(first.params[player], [layer]).items()
                # The bias of a relativistic logit has no gradient.
                if leaf.ndim > 1
            ]
            assert min(moved) > 0
        first_move = {
            path: np.abs(_select(states[3].params[player], new)[path] - leaf).max()
            for path, leaf in _select(states[2].params[player], new).items()
        }
        # The second update of a step is at most sqrt(1 + b2) times as large as Adam's first.
        most = 1 if updates[player] == 1 else 1 + 2**0.5
        assert max(first_move.values()) <= RATE * most * 1.0001
    absent = [path for path in flatten_dict(before.collections["spectral"]) if "to_8" in path]
    assert absent
    for path in absent:
        of_step = [flatten_dict(state.collections["spectral"])[path] for state in states]
        np.testing.assert_array_equal(of_step[0], of_step[2])
        assert np.any(of_step[2] != of_step[3])


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_layers_of_a_stage_alone_give_the_gradient_of_all_layers(tiny, float64, stage):
    experiment = _make(tiny, SGD, "augmentations={}")
    state = jax.tree.map(
        lambda x: x.astype(float) if x.dtype == np.float32 else x, _start(experiment)
    )
    step = experiment.gan.growing.stages[stage].first
    collections = jax.tree.map(lambda x: x, state.collections)
    for player in PLAYERS:
        collections["growing"][player]["step"] = np.int32(step)
    state = state.replace(step=np.int32(step), collections=collections)
    batch = jax.tree.map(lambda leaf: leaf[0], experiment.batches(step))
    for update in experiment.updates:
        gradients = [
            jax.jit(functools.partial(compute_gradients, gan, update))(state, batch, experiment.key)
            for gan in (experiment.gan, at_stage(experiment.gan, stage))
        ]
        for path, leaf in flatten_dict(gradients[0].gradient).items():
            staged = flatten_dict(gradients[1].gradient)[path]
            np.testing.assert_allclose(staged, leaf, rtol=1e-9, atol=1e-12)
        player = update.player
        absent = {0: NEW[player], 1: (), 2: OLD[player]}[stage]
        for path, leaf in flatten_dict(gradients[1].gradient).items():
            if any(path[: len(layer)] == layer for layer in absent):
                assert not np.any(leaf)
            # The bias of a relativistic logit has no gradient.
            elif leaf.ndim > 1:
                assert np.any(leaf)


@pytest.mark.slow
def test_samples_have_the_last_size_in_every_stage(tiny):
    experiment = _make(tiny, ADAM)
    start = _start(experiment)
    states = [start, *_run(experiment, start, range(6))]
    for state, size in zip(states, (8, 8, 8, 16, 16, 16, 16), strict=True):
        images = experiment.sampler(state).sample(np.arange(4), np.arange(4) % 3)
        assert images.shape == (4, 16, 16, 3)
        enlarged = images[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
        assert np.array_equal(images, enlarged) == (size == 8)


LAYOUTS = {
    "2 devices": lambda: sharding.jit_parallelism(jax.devices()[:2]),
    "4 pmapped": lambda: sharding.pmap_parallelism(jax.devices()),
    "4 split": lambda: sharding.jit_parallelism(jax.devices(), 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_six_steps_are_the_same_in_every_layout(tiny, float64, monkeypatch, layout):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 2**6)
    ends = []
    for make in (None, LAYOUTS[layout]):
        experiment = _make(tiny, SGD, parallelism=make and make())
        start = jax.tree.map(
            lambda x: x.astype(float) if x.dtype == np.float32 else x, _start(experiment)
        )
        ends.append(_run(experiment, start, range(6))[-1])
    assert np.abs(ends[0].params["generator"]["bias"]).max() > 1e-6
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


@pytest.mark.slow
def test_calls_of_several_steps_end_where_a_stage_does(tiny):
    growth = "growing={'resolutions': (8, 16), 'steps': (5,), 'fade_steps': 2}"
    flags = SGD, growth, "num_train_steps=10", "run.sample_every=10", "run.checkpoint_every=10"
    experiment = _make(tiny, *flags, "steps_per_call=3")
    calls = list(experiment.dispatch.calls(0))
    assert [(call.start, call.stop) for call in calls] == [
        *((0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10))
    ]
    start = _start(experiment)
    (expected,) = _run(experiment, start, range(3))[-1:]
    parallelism = experiment.parallelism
    key = parallelism.place_key(experiment.key)
    state, _ = experiment.dispatch.advance(parallelism.place(start), range(3), key)
    for a, b in zip(*map(jax.tree.leaves, (parallelism.to_host(state), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_is_stopped_at_every_step_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch):
    brief = "evaluation.classifier=False", "evaluation.memorization=False", "num_train_steps=5"
    config = tiny(*SMALL, ADAM, *brief, "run.checkpoint_every=100", "run.sample_every=100")

    def run(workdir):
        return commands.train(make_experiment(config, "tiny"), workdir)

    at_once, in_parts = tmp_path / "at once", tmp_path / "in parts"
    assert run(at_once) == 0
    with monkeypatch.context() as patched:
        patched.setattr(loop.Signals, "should_stop", lambda _: True)
        for _ in range(4):
            run(in_parts)
    assert run(in_parts) == 0
    experiment = make_experiment(config, "tiny")
    states = (restore.restore_state(experiment, place, "last") for place in (at_once, in_parts))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_new_layer_has_the_learning_rate_of_the_run(tiny):
    rate = {"name": "linear", "points": ((0.0, 1.0), (1.0, 0.0))}
    spec = {"name": "sgd", "learning_rate": rate}
    optimizer = make_optimizer(
        spec, "generator", RunLength(10, 8), updates_per_step=2, first_step=4
    )
    params = {"w": jnp.ones(1)}
    state = optimizer.init(params)
    for count in range(8, 22):
        updates, state = optimizer.update(params, state)
        np.testing.assert_allclose(updates["w"], -max(1 - count / 20, 0), atol=1e-6)


def test_the_moving_average_of_a_new_layer_warms_up_from_its_first_step():
    new, old = {"a": jnp.float32(2.0), "b": jnp.float32(0.1)}, {"a": 1.0, "b": jnp.float32(0.3)}
    average = functools.partial(
        moving_average, new, old, ema_decay=0.9, first_steps={"a": 0, "b": 5}
    )
    for step, decay in {0: 0.1, 4: 5 / 14, 200: 0.9}.items():
        np.testing.assert_allclose(average(jnp.int32(step))["a"], 2 - decay, rtol=1e-6)
    for step in (0, 4):
        assert average(jnp.int32(step))["b"] == np.float32(0.3)
    for step, decay in {5: 0.1, 9: 5 / 14}.items():
        expected = decay * 0.3 + (1 - decay) * 0.1
        np.testing.assert_allclose(average(jnp.int32(step))["b"], expected, rtol=1e-6)


def test_an_optimizer_on_hold_has_the_state_of_the_other():
    params = {"w": jnp.arange(3.0)}
    adam = optax.adam(0.1)
    held_back, state = growing.hold(adam), adam.init(params)
    jax.tree.map(np.testing.assert_array_equal, held_back.init(params), state)
    _, state = adam.update(params, state, params)
    updates, after = held_back.update(params, state, params)
    np.testing.assert_array_equal(updates["w"], 0)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_a_growth_has_its_phases_one_after_the_other():
    options = GrowingOptions((8, 16, 32), (10, 20), 5)
    assert make_growth(options, 32, 35).starts == (0, 10, 30)
    assert make_growth(GrowingOptions(), 32, 1) is None
    with pytest.raises(InputError, match="num_train_steps must be 35 or more, after which"):
        make_growth(options, 32, 34)
    with pytest.raises(InputError, match=r"resolutions must be \(\) with these data, or end with"):
        make_growth(options, None, 35)


@pytest.mark.parametrize(
    "fields, message",
    [
        (((8, 16), ()), r"steps must be 1 long, one less than resolutions, each above 0, got \(\)"),
        (((8, 16), (0,)), "steps must be 1 long"),
        (((), (1,)), "steps must be 0 long"),
        (((8, 16, 32), (10, 4), 5), "fade_steps must be 0 or more, and at most .* a phase, 4, got"),
        (((8, 16), (1,), -1), "fade_steps must be 0 or more"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        GrowingOptions(*fields)


def test_an_unreachable_resolution_is_named_with_its_field(tiny):
    unreachable = "growing={'resolutions': (4, 8, 16), 'steps': (1, 1)}"
    message = r"^config.growing.resolutions must be the last of \(8, 16\), which the networks can"
    with pytest.raises(InputError, match=message):
        _make(tiny, unreachable)
