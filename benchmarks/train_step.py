"""Compares the train step of gaxn with the same step in PyTorch eager, on the CPU.

    python benchmarks/train_step.py [--config configs/NAME.py] [--config.key=value ...]
                                    [--rounds 7] [--steps 10]

The default config is configs/attn_cgan_shapes.py; others must use the networks of
gaxn/models/attn_cgan.py. Needs gaxn and its extra `benchmarks`.

A step starts when its images are ready: fixed random uint8 batches are decoded to [-1, 1], every
update is made (losses, penalty, Adam), and the running mean is updated. On no side the time
includes making the images. gaxn runs the compiled step, with the state donated and the batch
divided among the cores, as in a run, and once more on one device; PyTorch runs networks of equal
parameter counts in float32 and channels_last, on as many threads as there are cores. The sides
alternate in one process, `--steps` steps per round. The machine has to be idle otherwise: a busy
core costs PyTorch far more than XLA, and the ratio then means nothing.

Prints the parameters of each player (if the sides differ, the script stops) and the load of the
machine at the start, which should be near 0; then a row per side, with the median and the least
milliseconds per step over the rounds. Last the ratios of the others to gaxn, above 1 where gaxn is
faster: of the medians; and the median and range over the rounds.
"""

import argparse
import dataclasses
import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import torch
import torch_attn_cgan
import torch_gan
from timing import Side, alternate, report

from gaxn import config as configs
from gaxn.distributed import sharding
from gaxn.experiment import Experiment, defaults_of, make_experiment, with_schedules
from gaxn.objectives import schedules
from gaxn.training.state import TrainState
from gaxn.types import Batch, InputError, check

CONFIG = Path(__file__).parents[1] / "configs" / "attn_cgan_shapes.py"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=7, help="rounds")
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    options, rest = parser.parse_known_args(argv[1:])
    load = os.getloadavg()[0]
    jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(os.cpu_count())
    try:
        arguments = configs.parse([argv[0], f"--config={CONFIG}", *rest], defaults_of)
        sharding.use_cores(arguments.config.batch_size)
        experiment = make_experiment(arguments.config, arguments.name)
        trainer = make_trainer(experiment)
    except InputError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    state = jax.device_get(experiment.create_state(experiment.key))
    check_parameters(state.params, trainer)
    batches = random_batches(experiment)
    updates, batch_size = batches.images.shape[:2]
    print(f"{experiment.name}: batch {batch_size}, {updates} updates a step")
    print(f"load average at the start: {load:.1f}, on {os.cpu_count()} cores")
    devices = jax.devices()
    sides = {
        f"gaxn, {len(devices)} devices": gaxn_side(
            experiment, sharding.jitted(devices), state, batches
        ),
        "gaxn, 1 device": gaxn_side(experiment, sharding.jitted(devices[:1]), state, batches),
        "PyTorch": torch_side(trainer, batches),
    }
    report(alternate(sides, options.rounds, options.steps))
    return 0


def random_batches(experiment: Experiment) -> Batch:
    """Returns the batches of one step, on the host: one per update, along the first axis."""
    random = np.random.default_rng(0)
    shape = (len(experiment.updates), experiment.settings.batch_size)
    images = random.integers(0, 256, (*shape, *experiment.train.image_shape), np.uint8)
    if not experiment.train.class_names:
        return Batch(images, None)
    return Batch(images, random.integers(0, len(experiment.train.class_names), shape, np.int32))


def gaxn_side(
    experiment: Experiment, parallelism: sharding.Parallelism, state: TrainState, batches: Batch
) -> Side:
    step = parallelism.compile_step(experiment.train_step)
    state, batches = parallelism.place(state), place(parallelism, batches)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, scalars = step(state, batches, experiment.key)
        jax.block_until_ready(state)
        check_finite("gaxn", float(scalars["g/loss"]))

    return run


def place(parallelism: sharding.Parallelism, batches: Batch) -> Batch:
    """Returns the batches on the devices, as the input pipeline of a run puts them there."""
    updates, rows = batches.images.shape[:2]
    table = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batches)

    def look_up(table: Batch, indices: jax.Array) -> Batch:
        return jax.tree.map(lambda leaf: leaf[indices], table)

    read = parallelism.compile_reader(look_up, table)
    return read(np.arange(updates * rows).reshape(updates, rows))


def torch_side(trainer: torch_gan.Trainer, batches: Batch) -> Side:
    pixels = torch.from_numpy(batches.images)
    labels = None if batches.labels is None else torch.from_numpy(batches.labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = trainer.step(pixels, labels)
        check_finite("PyTorch", loss.item())

    return run


def make_trainer(experiment: Experiment) -> torch_gan.Trainer:
    """Returns the PyTorch side of an experiment.

    Raises:
        InputError: a part of the experiment is not written in PyTorch here.
    """
    gan, config = experiment.gan, experiment.config
    check_known("gan.name", config["gan"]["name"], ["gan.GAN"])
    for player in ("Generator", "Discriminator"):
        name = config[player.lower()]["name"]
        check_known(f"{player.lower()}.name", name, [f"attn_cgan.{player}"])
    check_known("loss", config["loss"], [{"name": name} for name in torch_gan.LOSSES])
    r1 = config["penalties"].get("r1", {"weight": 0.0})
    check_known("penalties", config["penalties"], [{}, {"r1": {"weight": r1.get("weight")}}])
    check_known("augmentations", config["augmentations"], [{}])
    for player, spec in config["optimizers"].items():
        check_known(f"optimizers.{player}.name", spec["name"], ["adam"])
        for option in spec:
            check_known(f"optimizers.{player}", option, ["name", *torch_gan.ADAM_OPTIONS])
    size, _, channels = experiment.train.image_shape
    return torch_gan.Trainer(
        make_network(torch_attn_cgan.Generator, gan.generator, latent_size=gan.latent_size),
        make_network(
            torch_attn_cgan.Discriminator, gan.discriminator, size=size, channels=channels
        ),
        torch_gan.LOSSES[config["loss"]["name"]],
        gan.latent_size,
        r1["weight"],
        make_optimizer_options(experiment),
        config["ema_decay"],
    )


def make_optimizer_options(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Returns the options of `torch_gan.make_adam` by player."""
    settings = experiment.settings
    clock = schedules.Clock(settings.num_train_steps, settings.batch_size)
    options = with_schedules(settings.optimizers, "config.optimizers", clock)
    for player, spec in options.items():
        rate = spec["learning_rate"]
        is_schedule = isinstance(rate, schedules.Schedule)
        lines = not is_schedule or rate.segment is optax.linear_schedule
        check(f"optimizers.{player}.learning_rate", rate, lines, "a number, or linear")
        spec["learning_rate"] = rate.points if is_schedule else ((0, rate),)
    return options


def check_parameters(params: dict[str, Any], trainer: torch_gan.Trainer) -> None:
    """Prints the number of parameters of each player, which must be equal on both sides."""
    for player, tree in params.items():
        ours = sum(leaf.size for leaf in jax.tree.leaves(tree))
        theirs = sum(leaf.numel() for leaf in getattr(trainer, player).parameters())
        assert ours == theirs, f"{player}: {ours} parameters in gaxn, {theirs} in PyTorch"
        print(f"{player}: {ours:,} parameters")


def make_network(make: Callable, module: nn.Module, **inferred: Any) -> torch.nn.Module:
    """Returns the PyTorch network with the fields of a Flax module, and the inferred sizes."""
    known = inspect.signature(make).parameters
    names = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
    for name in names - known.keys():
        # The PyTorch network lacks this option, so it has to be at its default.
        value = getattr(module, name)
        check_known(f"{type(module).__name__}.{name}", value, [getattr(type(module), name)])
    return make(**{name: getattr(module, name) for name in names & known.keys()}, **inferred)


def check_known(field: str, value: Any, known: list) -> None:
    names = " or ".join(map(str, known))
    check(f"config.{field}", value, value in known, f"{names} in this benchmark")


def check_finite(side: str, loss: float) -> None:
    assert math.isfinite(loss), f"{side}: the loss is {loss}"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
