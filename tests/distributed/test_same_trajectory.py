"""Twenty steps of SGD are the same on one device, on four, and by two processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ports import free_ports

ROOT = Path(__file__).parents[2]


# Not Adam, which turns rounding on near-zero gradients into steps of the learning rate.
def _sgd(rate):
    one = {"name": "sgd", "learning_rate": rate}
    return f"--config.optimizers={dict.fromkeys(('generator', 'discriminator'), one)}"


STEPS = """
import sys
import jax, numpy as np
from gaxn import arguments, compilation_cache, mesh, modes, processes
from gaxn.experiment import make_experiment
out, *argv = sys.argv[1:]
mesh.WORTH_SPLITTING = 2**9
given = arguments.parse(["gaxn", *argv], modes.MODES)
compilation_cache.enable()
processes.join(given.cluster)
experiment = make_experiment(given.config, given.name)
placement = experiment.placement
program = placement.step(experiment.step)
start = jax.device_get(experiment.create(experiment.key))
start = jax.tree.map(
    lambda x: x.astype(jax.numpy.float_) if x.dtype == np.float32 else x, start
)
state, key = placement.place(start), placement.key(experiment.key)
for step in range(20):
    state, _ = program(state, experiment.feed(step), key)
    jax.block_until_ready(state)
last = placement.to_host(state)
moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, last.params)
assert max(jax.tree.leaves(moved)) > 1e-3
if processes.is_first():
    np.savez(out, *map(np.asarray, jax.tree.leaves((start.params, last))))
"""

PLACES = {
    "1 device": (1, ()),
    "2 devices": (2, ()),
    "2 processes": (1, ("--processes=2",)),
    "4 devices": (4, ()),
    "4 pmapped": (4, ("--config.parallel=pmap",)),
    "4 split": (4, ("--config.parallel=sharded",)),
    "2 pairs": (4, ("--config.parallel=sharded", "--config.shards=2")),
}


# Attention, dropout and a history that is soon full, all at once. Instance norm over small first
# kernels has so much curvature that, from a rate of 1e-3 on, a step makes ten of every error, in
# float64 too: 1e-17 after the first, 1e-2 after the last.
MORE = {
    "attn_cyclegan_shapes": (
        _sgd(3e-5),
        "--config.gan.history=5",
        "--config.discriminator.attention=True",
        "--config.discriminator.dropout=0.2",
    )
}


def _leaves(folder, name, config, bits=32):
    """The numbers before and after, as a list of arrays."""
    devices, options = PLACES[name]
    environment = {
        **os.environ,
        "JAX_ENABLE_X64": str(int(bits == 64)),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(bits == 64)),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    command = [sys.executable, "-c", STEPS, str(folder / f"{name}.npz"), *config]
    commands = [[*command, *options]]
    if "--processes=2" in options:
        cluster = f"--coordinator=127.0.0.1:{free_ports()[0]}"
        commands = [[*commands[0], cluster, f"--process={index}"] for index in range(2)]
    running = [subprocess.Popen(each, env=environment, cwd=ROOT) for each in commands]
    try:
        assert [process.wait(timeout=600) for process in running] == [0] * len(running)
    finally:
        for process in running:
            process.kill()
    with np.load(folder / f"{name}.npz") as saved:
        return [saved[key] for key in saved.files]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attn_cgan_shapes", "sagan_folder", "attn_cyclegan_shapes"])
def test_twenty_steps_are_the_same_everywhere(tmp_path, photos, name):
    """In float64 nothing but an error is as large as 1e-10, through whatever corner of a ReLU."""
    config = [f"--config=configs/{name}.py:tiny", _sgd(1e-2), *MORE.get(name, ())]
    if name == "sagan_folder":
        config.append(f"--config.data.path={photos}")
    one = _leaves(tmp_path, "1 device", config, 64)
    assert one[0].dtype == np.float64
    for place in sorted(PLACES.keys() - {"1 device"}):
        leaves = _leaves(tmp_path, place, config, 64)
        apart = max(np.abs(a - b).max() for a, b in zip(one, leaves, strict=True) if a.size)
        print(f"{name}, {place}: {apart:.2g}", flush=True)
        for a, b in zip(one, leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    pair, one = (_leaves(tmp_path, place, config) for place in ("2 processes", "2 devices"))
    for a, b in zip(pair, one, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_population_on_two_processes_is_that_of_one(tmp_path):
    config = ["--config=configs/ring.py:gan+tiny", _sgd(1e-2), "--config.population=4"]
    pair, one = (_leaves(tmp_path, place, config) for place in ("2 processes", "2 devices"))
    assert len(one[0]) == 4
    for a, b in zip(pair, one, strict=True):
        np.testing.assert_array_equal(a, b)
