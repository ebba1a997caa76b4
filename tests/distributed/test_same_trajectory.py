"""Twenty steps of SGD are the same on one device, on four, and by two processes."""

from pathlib import Path

import numpy as np
import pytest
from processes import finish, running

CONFIGS = Path(__file__).parents[2] / "configs"


# Not Adam, which turns rounding on near-zero gradients into steps of the learning rate.
def _sgd(rate):
    sgd = {"name": "sgd", "learning_rate": rate}
    return f"--config.optimizers={dict.fromkeys(('generator', 'discriminator'), sgd)}"


STEPS = """
import sys
import jax, numpy as np
from gaxn import config
from gaxn.distributed import multihost, sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of
from gaxn.io import compilation_cache
out, *argv = sys.argv[1:]
sharding.MIN_SPLIT_SIZE = 2**9
arguments = config.parse(["gaxn", *argv], defaults_of)
compilation_cache.enable()
multihost.join(arguments.cluster)
experiment = make_experiment(arguments.config, arguments.name)
parallelism = experiment.parallelism
start = jax.device_get(experiment.create_state(experiment.key))
start = jax.tree.map(
    lambda x: x.astype(jax.numpy.float_) if x.dtype == np.float32 else x, start
)
state, key = parallelism.place(start), parallelism.place_key(experiment.key)
for step in range(20):
    state, _ = experiment.compiled_step(state, experiment.batches(step), key)
    jax.block_until_ready(state)
last = parallelism.to_host(state)
moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, last.params)
assert max(jax.tree.leaves(moved)) > 1e-3
if multihost.is_first():
    np.savez(out, *map(np.asarray, jax.tree.leaves((start.params, last))))
"""

LAYOUTS = {
    "1 device": (1, 1, ()),
    "2 devices": (1, 2, ()),
    "2 processes": (2, 1, ()),
    "4 devices": (1, 4, ()),
    "4 pmapped": (1, 4, ("--config.parallel=pmap",)),
    "4 split": (1, 4, ("--config.parallel=sharded",)),
    "2 pairs": (1, 4, ("--config.parallel=sharded", "--config.shards=2")),
}
"""Processes, devices of each, and flags."""

FEW_LAYOUTS = ("2 processes", "4 pmapped", "2 pairs")
"""Layouts of the configs whose step takes up to a minute to compile in each."""

# Attention, dropout and a history that is soon full, all at once. Instance norm over small first
# kernels has so much curvature that, from a rate of 1e-3 on, each step multiplies every error by
# ten, in float64 too: 1e-17 after the first, 1e-2 after the last.
FURTHER_FLAGS = {
    "attn_cyclegan_shapes": (
        _sgd(3e-5),
        "--config.gan.history=5",
        "--config.discriminator.attention=True",
        "--config.discriminator.dropout=0.2",
    )
}


def _train(folder, layout, config, bits=32):
    """Returns the parameters before and the state after twenty steps, as a list of arrays."""
    count, devices, flags = LAYOUTS[layout]
    variables = {
        "JAX_ENABLE_X64": str(int(bits == 64)),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(bits == 64)),
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    path = folder / f"{layout}.npz"
    with running("-c", STEPS, path, *config, *flags, count=count, **variables) as processes:
        for end in finish(processes):
            assert end.returncode == 0, end.stderr
    with np.load(path) as saved:
        return [saved[key] for key in saved.files]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attn_cgan_shapes", "sagan_folder", "attn_cyclegan_shapes"])
def test_twenty_steps_are_the_same_in_every_layout(tmp_path, photos, name):
    """In float64 only a fault makes a difference of 1e-10, through whatever corner of a ReLU."""
    config = [f"--config={CONFIGS / name}.py:tiny", _sgd(1e-2), *FURTHER_FLAGS.get(name, ())]
    if name == "sagan_folder":
        config.append(f"--config.data.path={photos}")
    expected = _train(tmp_path, "1 device", config, 64)
    assert expected[0].dtype == np.float64
    all_layouts = sorted(LAYOUTS.keys() - {"1 device"})
    for layout in all_layouts if name == "attn_cgan_shapes" else FEW_LAYOUTS:
        leaves = _train(tmp_path, layout, config, 64)
        pairs = zip(expected, leaves, strict=True)
        difference = max(np.abs(a - b).max() for a, b in pairs if a.size)
        print(f"{name}, {layout}: {difference:.2g}", flush=True)
        for a, b in zip(expected, leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    pair, one = (_train(tmp_path, layout, config) for layout in ("2 processes", "2 devices"))
    for a, b in zip(pair, one, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_population_on_two_processes_is_that_of_one(tmp_path):
    config = [f"--config={CONFIGS / 'ring.py'}:gan+tiny", _sgd(1e-2), "--config.population=4"]
    pair, one = (_train(tmp_path, layout, config) for layout in ("2 processes", "2 devices"))
    assert len(one[0]) == 4
    for a, b in zip(pair, one, strict=True):
        np.testing.assert_array_equal(a, b)
