"""Compares a step of a population with the steps of as many separate runs.

    python -m benchmarks.population [--config configs/NAME.py:VARIANT] [--config.key=value ...]
                                    [--rounds 7] [--steps 20]

The default is configs/ring.py:gan+short. Each side advances every member by one step, batches
included: the population in one program, with its members divided among the cores; separate runs one
after the other, once with the batch divided among the cores, as in a single run, and once on one
core. Ratios above 1 are the population's speed-up. The machine has to be idle.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from benchmarks.timing import Side, alternate, report
from gaxn import config as configs
from gaxn.distributed import sharding
from gaxn.experiment import make_experiment
from gaxn.experiment.settings import defaults_of

CONFIG = Path(__file__).parents[1] / "configs" / "ring.py:gan+short"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=7, help="rounds")
    parser.add_argument("--steps", type=int, default=20, help="steps per round")
    options, rest = parser.parse_known_args(argv[1:])
    config = configs.parse([argv[0], f"--config={CONFIG}", *rest], defaults_of).config
    count = config.population
    sharding.use_cores(count * sharding.MIN_ROWS_PER_CORE)
    devices = jax.devices()
    single = ConfigDict({**config, "population": 1})
    sides = {
        f"population of {count}, {len(devices)} devices": make_side(
            config, sharding.population_parallelism(devices, count), 1
        ),
        f"{count} runs, {len(devices)} devices": make_side(
            single, sharding.jit_parallelism(devices), count
        ),
        f"{count} runs, 1 device": make_side(single, sharding.jit_parallelism(devices[:1]), count),
    }
    report(alternate(sides, options.rounds, options.steps))
    return 0


def make_side(config: ConfigDict, parallelism: sharding.Parallelism, repeats: int) -> Side:
    """Returns a side that makes `repeats` training steps per call, on one state."""
    experiment = make_experiment(config, "population", parallelism)
    state = parallelism.place(jax.device_get(experiment.create_state(experiment.key)))
    key = parallelism.place_key(experiment.key)
    done = 0

    def run(calls: int) -> None:
        nonlocal state, done
        for _ in range(calls * repeats):
            state, _ = experiment.compiled_step(state, experiment.batches(done), key)
            done += 1
        jax.block_until_ready(state)

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv))
