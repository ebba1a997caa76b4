"""One device, four sharded and four pmapped run the same trajectory."""

import jax
import numpy as np
import pytest

from gaxn import mesh
from gaxn.build import build

PLACEMENTS = {"sharded": mesh.jitted, "pmapped": mesh.pmapped}

# SGD, because Adam turns rounding on near-zero gradients into steps of the learning rate.
SGD = [
    "optimizers={'generator': {'name': 'sgd', 'learning_rate': 1e-2}, "
    "'discriminator': {'name': 'sgd', 'learning_rate': 1e-2}}"
]


TOLERANCE = 1e-5


def _after(config, placement, steps=5):
    experiment = build(config, "tiny", placement)
    program = placement.step(experiment.step)
    state = placement.place(jax.device_get(experiment.create(experiment.key)))
    for step in range(steps):
        state, scalars = program(state, experiment.feed(step), experiment.key)
    return placement.to_host(state), placement.to_host(scalars)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["penalties={'wgan_gp': 10.0}", "loss={'name': 'wasserstein'}"],
        ["discriminator.spectral_norm=True", "augmentations={'translation': {}}"],
        [
            "discriminator.auxiliary=True",
            "augmentations={'colour': {}}",
            "objective.ada_target=0.5",
            "objective.ada_images=100",
            "objective.top_share=0.5",
            "regularizers={'lecam': {}, 'bcr': {'augmentations': {'cutout': {}}}, 'zcr': {}, "
            "'auxiliary': {}}",
        ],
    ],
    ids=["config", "wgan_gp", "spectral_norm and augmentation", "regularisers"],
)
def test_devices_do_not_change_the_trajectory(tiny, options):
    config = tiny(*SGD, *options)
    one, one_scalars = _after(config, mesh.jitted(jax.devices()[:1]))
    start = jax.device_get(
        build(config, "tiny", mesh.jitted(jax.devices()[:1])).create(jax.random.key(0))
    )
    moved = [np.abs(a - b).max() for a, b in _pairs(one.params, start.params)]
    assert max(moved) > 100 * TOLERANCE
    for place in PLACEMENTS.values():
        four, four_scalars = _after(config, place(jax.devices()))
        for a, b in _pairs(one, four):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in one_scalars.items():
            np.testing.assert_allclose(value, four_scalars[name], rtol=1e-4, atol=1e-5)


ALONE = [
    # No example sees another: without batch statistics the parts of a batch are its whole.
    "generator={'name': 'transformer_gan.Generator', 'patch': 8, 'width': 16, 'depth': 1, "
    "'heads': 2}",
    "discriminator={'name': 'transformer_gan.Discriminator', 'patch': 8, 'width': 16, "
    "'depth': 1, 'heads': 2, 'hidden': 16}",
    "penalties={'r1': 1.0, 'wgan_gp': 1.0}",
    "augmentations={'translation': {}, 'colour': {}}",
    "batch=16",
]


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_batch(tiny, parts):
    whole, whole_scalars = _after(tiny(*SGD, *ALONE), mesh.jitted(jax.devices()[:1]))
    config = tiny(*SGD, *ALONE, f"accumulate={parts}")
    for place in (lambda devices: mesh.jitted(devices[:1]), *PLACEMENTS.values()):
        state, scalars = _after(config, place(jax.devices()))
        for a, b in _pairs(whole, state):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
        for name, value in whole_scalars.items():
            np.testing.assert_allclose(value, scalars[name], rtol=1e-4, atol=1e-5)


def test_a_batch_in_parts_goes_from_statistics_to_statistics(tiny):
    options = [*SGD, "discriminator.spectral_norm=True"]
    config, at_once = tiny(*options, "accumulate=2", "batch=16"), tiny(*options, "batch=16")
    one, whole = (_after(own, mesh.jitted(jax.devices()[:1]))[0] for own in (config, at_once))
    apart = [np.abs(a - b).max() for a, b in _pairs(one.collections, whole.collections)]
    assert max(apart) > 100 * TOLERANCE
    for place in PLACEMENTS.values():
        four, _ = _after(config, place(jax.devices()))
        for a, b in _pairs(one, four):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def test_a_batch_that_the_devices_cannot_share_is_refused(tiny):
    from gaxn.types import InputError

    with pytest.raises(InputError, match=r"config.batch is 6; .* multiple of the 4 devices"):
        build(tiny("batch=6"), "tiny")


@pytest.mark.parametrize(
    ("batch", "cores", "devices"),
    [(32, 1, 1), (32, 2, 2), (32, 64, 2), (48, 4, 3), (50, 4, 2), (8, 2, 1), (33, 2, 1), (0, 2, 1)],
)
def test_a_core_gets_an_equal_share_that_is_worth_it(batch, cores, devices):
    assert mesh.devices_of_cores(batch, cores) == devices


def _pairs(a, b):
    return list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
