"""One device, four sharded and four pmapped run the same trajectory."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from networks import ONE_BLOCK

from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.types import InputError

SPLIT = functools.partial(sharding.jit_parallelism, shards=2)

# SGD, because Adam turns rounding on near-zero gradients into steps of the learning rate.
SGD = [
    "optimizers={'generator': {'name': 'sgd', 'learning_rate': 1e-2}, "
    "'discriminator': {'name': 'sgd', 'learning_rate': 1e-2}}"
]

# All layers of the config, at a quarter of its pixels.
SMALL = [
    "penalties={}",
    "data.size=16",
    "generator.attention_at=(8,)",
    "discriminator.attention_at=(8,)",
]

# In float64 no rounding makes this much of a difference, through whatever corner of a ReLU.
pytestmark = pytest.mark.usefixtures("float64")
TOLERANCE = 1e-12


def _start(experiment):
    state = jax.device_get(experiment.create_state(experiment.key))
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, state)


def _train(config, parallelism, steps=5):
    """Returns the state after some steps, and the scalars of the last."""
    experiment = make_experiment(config, "tiny", parallelism)
    state = parallelism.place(_start(experiment))
    for step in range(steps):
        state, scalars = experiment.compiled_step(state, experiment.batches(step), experiment.key)
    return parallelism.to_host(state), parallelism.to_host(scalars)


def _pairs(a, b):
    return list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize(
    ("parallelisms", "options"),
    [
        pytest.param(
            (sharding.jit_parallelism, sharding.pmap_parallelism),
            ONE_BLOCK,
            id="convolutions",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (sharding.jit_parallelism, sharding.pmap_parallelism, SPLIT),
            SMALL,
            id="attention",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (sharding.jit_parallelism, sharding.pmap_parallelism, SPLIT),
            [
                "loss={'name': 'wasserstein'}",
                "penalties={'wgan_gp': {'weight': 10.0, 'interval': 2}}",
                "discriminator.spectral_norm=True",
                "discriminator.auxiliary=True",
                "augmentations={'color': {}, 'translation': {}}",
                "objective.ada_target=0.5",
                "objective.ada_images=100",
                "objective.top_share=0.5",
                "regularizers={'lecam': {}, 'bcr': {'augmentations': {'cutout': {}}}, 'zcr': {}, "
                "'auxiliary': {}, 'feature_matching': {'weight': 0.1}, "
                "'perceptual': {'extractor': {'name': 'pixels'}}}",
            ],
            id="many parts",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_devices_do_not_change_the_trajectory(tiny, parallelisms, options, monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 2**9)
    config = tiny(*SGD, *options)
    one_device = sharding.jit_parallelism(jax.devices()[:1])
    expected, expected_scalars = _train(config, one_device)
    start = _start(make_experiment(config, "tiny", one_device))
    assert max(np.abs(a - b).max() for a, b in _pairs(expected.params, start.params)) > 1e-3
    for make_parallelism in parallelisms:
        state, scalars = _train(config, make_parallelism(jax.devices()))
        for a, b in _pairs(expected, state):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in expected_scalars.items():
            np.testing.assert_allclose(value, scalars[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "parts", "expected"),
    [
        ((4, 4, 256, 128), 4, (None, None, "model")),
        ((4, 4, 128, 128), 4, (None, None, None, "model")),
        ((256, 1, 64), 4, ("model",)),
        ((128, 129), 4, ("model",)),
        ((129, 128), 4, (None, "model")),
        ((129, 131), 4, ()),
        ((128, 127), 4, ()),
        ((4, 4, 256, 128), 1, ()),
        ((), 4, ()),
        ((0, 4), 4, ()),
    ],
)
def test_the_longest_axis_that_divides_is_split(shape, parts, expected):
    assert sharding.split(shape, parts) == PartitionSpec(*expected)


def test_a_device_holds_its_share_of_a_split_state(tiny, monkeypatch):
    monkeypatch.setattr(sharding, "MIN_SPLIT_SIZE", 2**9)
    experiment = make_experiment(tiny(*ONE_BLOCK, "parallel=sharded"), "tiny")
    state = jax.device_get(experiment.create_state(experiment.key))
    placed = experiment.parallelism.place(state)
    share = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(placed))
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert total / 4 < share < total / 2
    jax.tree.map(np.testing.assert_array_equal, experiment.parallelism.to_host(placed), state)


def test_shards_that_do_not_divide_the_devices_are_refused(tiny):
    message = "^config.shards must be 0, or a divisor of the 4 devices, got 3$"
    with pytest.raises(InputError, match=message):
        make_experiment(tiny("parallel=sharded", "shards=3"), "tiny")


# No example depends on another: without batch statistics, micro-batches add up to the batch.
INDEPENDENT = [
    "generator={'name': 'transformer_gan.Generator', 'patch': 8, 'width': 16, 'depth': 1, "
    "'heads': 2}",
    "discriminator={'name': 'transformer_gan.Discriminator', 'patch': 8, 'width': 16, "
    "'depth': 1, 'heads': 2, 'hidden': 16}",
    "batch_size=16",
]

# With less to compile: a generator without a block, a discriminator of convolutions.
SMALLER = [
    "data.size=16",
    "generator.depth=0",
    "discriminator={'name': 'dcgan.Discriminator', 'widths': (8,)}",
]
SMOOTH = [
    "data.size=16",
    "penalties={'wgan_gp': {'weight': 1.0}}",
    "augmentations={'translation': {}}",
]
MORE = [
    "penalties={'r1': {'weight': 1.0}, 'wgan_gp': {'weight': 1.0}}",
    "augmentations={'translation': {}, 'color': {}}",
]
ALL = [
    lambda devices: sharding.jit_parallelism(devices[:1]),
    sharding.jit_parallelism,
    sharding.pmap_parallelism,
]


@pytest.mark.parametrize(
    ("steps", "options", "parallelisms"),
    [
        pytest.param(2, SMALLER, [sharding.pmap_parallelism], marks=pytest.mark.slow),
        pytest.param(2, SMOOTH, [sharding.pmap_parallelism], marks=pytest.mark.slow),
        pytest.param(2, MORE, ALL, marks=pytest.mark.slow),
        pytest.param(4, MORE, ALL, marks=pytest.mark.slow),
    ],
)
def test_micro_batches_give_the_gradient_of_the_batch(tiny, steps, options, parallelisms):
    options = [*SGD, *INDEPENDENT, *options]
    expected, expected_scalars = _train(tiny(*options), sharding.jit_parallelism(jax.devices()[:1]))
    config = tiny(*options, f"accumulation_steps={steps}")
    for make_parallelism in parallelisms:
        state, scalars = _train(config, make_parallelism(jax.devices()))
        for a, b in _pairs(expected, state):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in expected_scalars.items():
            np.testing.assert_allclose(value, scalars[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("make_parallelism", [sharding.pmap_parallelism, sharding.jit_parallelism])
def test_micro_batches_pass_their_statistics_on(tiny, make_parallelism):
    options = [*SGD, "discriminator.spectral_norm=True", "batch_size=16"]
    config = tiny(*options, "accumulation_steps=2")
    one_device = sharding.jit_parallelism(jax.devices()[:1])
    expected, at_once = (_train(item, one_device)[0] for item in (config, tiny(*options)))
    pairs = _pairs(expected.collections, at_once.collections)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3
    state, _ = _train(config, make_parallelism(jax.devices()))
    for a, b in _pairs(expected, state):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def test_a_batch_that_the_devices_cannot_share_is_refused(tiny):
    message = "^config.batch_size must be a multiple of the 4 devices, got 6$"
    with pytest.raises(InputError, match=message):
        make_experiment(tiny("batch_size=6"), "tiny")


@pytest.mark.parametrize(
    ("batch", "cores", "devices"),
    [(32, 1, 1), (32, 2, 2), (32, 64, 2), (48, 4, 3), (50, 4, 2), (8, 2, 1), (33, 2, 1), (0, 2, 1)],
)
def test_a_core_is_a_device_if_its_share_of_the_rows_is_large_enough(batch, cores, devices):
    assert sharding.devices_for_cores(batch, cores) == devices


@jax.enable_x64(False)
def test_devices_share_the_work_of_a_loss_that_sees_no_image(ring):
    """The generator's loss of an unconditional GAN: only the indices say which rows are whose."""
    config = ring(
        *("population=1", "batch_size=64", "discriminator.widths=(64, 64)"),
        *("generator.widths=(64, 64)", "loss={'name': 'non_saturating'}"),
        variant="gan+tiny",
    )
    flops = []
    for count in (1, 4):
        parallelism = sharding.jit_parallelism(jax.devices()[:count])
        experiment = make_experiment(config, "ring", parallelism)
        state, key = experiment.create_state(experiment.key), experiment.key
        arguments = parallelism.place(jax.device_get(state)), experiment.batches(0), key
        program = experiment.compiled_step.lower(*arguments).compile()
        flops.append(program.cost_analysis()["flops"])
    # A device moves all parameters.
    assert flops[0] / 4 < flops[1] < 0.4 * flops[0]
