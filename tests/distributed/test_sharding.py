"""One device, four sharded and four pmapped run the same trajectory."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from networks import ONE_BLOCK

from gaxn.experiment import make_experiment
from gaxn.distributed import sharding
from gaxn.types import InputError

SPLIT = functools.partial(sharding.jitted, shards=2)

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

# In float64: no rounding makes this much of a difference, through whatever corner of a ReLU.
pytestmark = pytest.mark.usefixtures("float64")
TOLERANCE = 1e-12


def _start(experiment):
    state = jax.device_get(experiment.create(experiment.key))
    return jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, state)


def _after(config, placement, steps=5):
    experiment = make_experiment(config, "tiny", placement)
    program = placement.step(experiment.step)
    state = placement.place(_start(experiment))
    for step in range(steps):
        state, scalars = program(state, experiment.feed(step), experiment.key)
    return placement.to_host(state), placement.to_host(scalars)


@pytest.mark.parametrize(
    ("places", "options"),
    [
        pytest.param((sharding.jitted, sharding.pmapped), ONE_BLOCK, id="convolutions"),
        pytest.param(
            (sharding.jitted, sharding.pmapped, SPLIT),
            SMALL,
            id="attention",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (sharding.jitted, sharding.pmapped, SPLIT),
            [
                "loss={'name': 'wasserstein'}",
                "penalties={'wgan_gp': 10.0}",
                "discriminator.spectral_norm=True",
                "discriminator.auxiliary=True",
                "augmentations={'color': {}, 'translation': {}}",
                "objective.ada_target=0.5",
                "objective.ada_images=100",
                "objective.top_share=0.5",
                "regularizers={'lecam': {}, 'bcr': {'augmentations': {'cutout': {}}}, 'zcr': {}, "
                "'auxiliary': {}}",
            ],
            id="much of all",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_devices_do_not_change_the_trajectory(tiny, places, options, monkeypatch):
    monkeypatch.setattr(sharding, "WORTH_SPLITTING", 2**9)
    config = tiny(*SGD, *options)
    one, one_scalars = _after(config, sharding.jitted(jax.devices()[:1]))
    start = _start(make_experiment(config, "tiny", sharding.jitted(jax.devices()[:1])))
    moved = [np.abs(a - b).max() for a, b in _pairs(one.params, start.params)]
    assert max(moved) > 1e-3
    for place in places:
        four, four_scalars = _after(config, place(jax.devices()))
        for a, b in _pairs(one, four):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in one_scalars.items():
            np.testing.assert_allclose(
                value, four_scalars[name], rtol=1e-9, atol=1e-12, err_msg=name
            )


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


def test_a_split_state_takes_its_share_of_a_device(tiny, monkeypatch):
    monkeypatch.setattr(sharding, "WORTH_SPLITTING", 2**9)
    experiment = make_experiment(tiny(*ONE_BLOCK, "parallel=sharded"), "tiny")
    state = jax.device_get(experiment.create(experiment.key))
    placed = experiment.placement.place(state)
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(placed))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert whole / 4 < here < whole / 2
    jax.tree.map(np.testing.assert_array_equal, experiment.placement.to_host(placed), state)


def test_shards_that_do_not_divide_the_devices_are_refused(tiny):
    with pytest.raises(InputError, match=r"config.shards is 3; valid is 0, or a divisor of the 4"):
        make_experiment(tiny("parallel=sharded", "shards=3"), "tiny")


ALONE = [
    # No example sees another: without batch statistics the parts of a batch are its whole.
    "generator={'name': 'transformer_gan.Generator', 'patch': 8, 'width': 16, 'depth': 1, "
    "'heads': 2}",
    "discriminator={'name': 'transformer_gan.Discriminator', 'patch': 8, 'width': 16, "
    "'depth': 1, 'heads': 2, 'hidden': 16}",
    "batch_size=16",
]


# The same of less to compile: a generator without a block, a discriminator of convolutions.
ALIKE = [
    "data.size=16",
    "generator.depth=0",
    "discriminator={'name': 'dcgan.Discriminator', 'widths': (8,)}",
]
SMOOTH = ["data.size=16", "penalties={'wgan_gp': 1.0}", "augmentations={'translation': {}}"]
MORE = ["penalties={'r1': 1.0, 'wgan_gp': 1.0}", "augmentations={'translation': {}, 'color': {}}"]
EVERYWHERE = [lambda devices: sharding.jitted(devices[:1]), sharding.jitted, sharding.pmapped]


@pytest.mark.parametrize(
    ("parts", "options", "places"),
    [
        (2, ALIKE, [sharding.pmapped]),
        pytest.param(2, SMOOTH, [sharding.pmapped], marks=pytest.mark.slow),
        pytest.param(2, MORE, EVERYWHERE, marks=pytest.mark.slow),
        pytest.param(4, MORE, EVERYWHERE, marks=pytest.mark.slow),
    ],
)
def test_a_batch_in_parts_is_the_batch(tiny, parts, options, places):
    options = [*SGD, *ALONE, *options]
    whole, whole_scalars = _after(tiny(*options), sharding.jitted(jax.devices()[:1]))
    config = tiny(*options, f"accumulation_steps={parts}")
    for place in places:
        placement = place(jax.devices())
        state, scalars = _after(config, placement)
        for a, b in _pairs(whole, state):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in whole_scalars.items():
            np.testing.assert_allclose(value, scalars[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("place", [sharding.pmapped, sharding.jitted])
def test_a_batch_in_parts_goes_from_statistics_to_statistics(tiny, place):
    options = [*SGD, "discriminator.spectral_norm=True"]
    config, at_once = tiny(*options, "accumulation_steps=2", "batch_size=16"), tiny(*options, "batch_size=16")
    one, whole = (_after(own, sharding.jitted(jax.devices()[:1]))[0] for own in (config, at_once))
    apart = [np.abs(a - b).max() for a, b in _pairs(one.collections, whole.collections)]
    assert max(apart) > 1e-3
    four, _ = _after(config, place(jax.devices()))
    for a, b in _pairs(one, four):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def test_a_batch_that_the_devices_cannot_share_is_refused(tiny):
    with pytest.raises(InputError, match=r"config.batch is 6; .* multiple of the 4 devices"):
        make_experiment(tiny("batch_size=6"), "tiny")


@pytest.mark.parametrize(
    ("batch", "cores", "devices"),
    [(32, 1, 1), (32, 2, 2), (32, 64, 2), (48, 4, 3), (50, 4, 2), (8, 2, 1), (33, 2, 1), (0, 2, 1)],
)
def test_a_core_gets_an_equal_share_that_is_worth_it(batch, cores, devices):
    assert sharding.devices_of_cores(batch, cores) == devices


def _pairs(a, b):
    return list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
