"""The side of gaxn: the steps of a run, with their batches, as the training loop makes them."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.race import rows
from benchmarks.race.worker import Side, peak_memory
from gaxn.distributed import sharding
from gaxn.experiment import Experiment, make_experiment


def make(row: str, device: str, folder: Path, tiny: bool) -> Side:
    """Returns the side of a row, its state at step 0 placed on the devices.

    Args:
        row: a name in `rows.ROWS`.
        device: "cpu" or "gpu".
        folder: for random images.
        tiny: whether the smallest form of the experiment is wanted.
    """
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    config = rows.make_config(rows.ROWS[row], device, folder, tiny)
    sharding.use_cores_for(config)
    experiment = make_experiment(config, row)
    flops = experiment.cost()["flops_a_step"] * len(experiment.members)
    return Side(make_run(experiment), _peak_bytes, _multiply, flops)


def make_run(experiment: Experiment):
    """Returns a function that makes a number of steps, from step 0 on, and waits for the last.

    It makes a few more if the last call has several steps; it returns how many.
    """
    place = experiment.parallelism.place
    state = place(jax.device_get(experiment.create_state(experiment.key)))
    key = experiment.parallelism.place_key(experiment.key)
    done = 0

    def run(count: int) -> int:
        nonlocal state, done
        first = done
        for steps in experiment.dispatch.calls(first):
            state, scalars = experiment.dispatch.advance(state, steps, key)
            done = steps.stop
            if done >= first + count:
                break
        jax.block_until_ready(state)
        assert all(np.isfinite(value).all() for value in jax.device_get(scalars).values()), scalars
        return done - first

    return run


def _peak_bytes() -> int:
    statistics = jax.local_devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else peak_memory()


def _multiply(size: int, dtype: str = "float32") -> float:
    """Returns the least seconds of five products of two square matrices."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
