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
import torch
import torch_attn_cgan
import torch_gan
from timing import Side, alternate, report

from gaxn import arguments
from gaxn.build import build
from gaxn.distributed import sharding
from gaxn.experiment import Experiment
from gaxn.training.state import TrainState
from gaxn.types import Batch, InputError

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
        given = arguments.parse([argv[0], f"--config={CONFIG}", *rest], ["train"])
        sharding.use_cores(given.config.batch)
        experiment = build(given.config, given.name)
        trainer = make_trainer(experiment)
    except InputError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    state = jax.device_get(experiment.create(experiment.key))
    check_parameters(state.params, trainer)
    batch = random_batch(experiment)
    print(f"{given.name}: batch {experiment.batch}, {len(experiment.turns)} turns a step")
    print(f"load average at the start: {load:.1f}, on {os.cpu_count()} cores")
    devices = jax.devices()
    sides = {
        f"gaxn, {len(devices)} devices": gaxn_side(
            experiment, sharding.jitted(devices), state, batch
        ),
        "gaxn, 1 device": gaxn_side(experiment, sharding.jitted(devices[:1]), state, batch),
        "PyTorch": torch_side(trainer, batch),
    }
    report(alternate(sides, options.rounds, options.steps))
    return 0


def random_batch(experiment: Experiment) -> Batch:
    """The batches of one step, one a turn, on the host."""
    random = np.random.default_rng(0)
    shape = (len(experiment.turns), experiment.batch)
    images = random.integers(0, 256, (*shape, *experiment.train.image_shape), np.uint8)
    if not experiment.train.class_names:
        return Batch(images, None)
    return Batch(images, random.integers(0, len(experiment.train.class_names), shape, np.int32))


def gaxn_side(
    experiment: Experiment, placement: sharding.Parallelism, state: TrainState, batch: Batch
) -> Side:
    step = placement.step(experiment.step)
    state, batch = placement.place(state), placed(placement, batch)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, scalars = step(state, batch, experiment.key)
        jax.block_until_ready(state)
        _require_finite("gaxn", float(scalars["g/loss"]))

    return run


def placed(placement: sharding.Parallelism, batch: Batch) -> Batch:
    """The batch on the devices, as a run's feed would leave it there."""
    turns, rows = batch.images.shape[:2]
    table = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)

    def look_up(table: Batch, indices: jax.Array) -> Batch:
        return jax.tree.map(lambda leaf: leaf[indices], table)

    return placement.source(look_up, table)(np.arange(turns * rows).reshape(turns, rows))


def torch_side(trainer: torch_gan.Trainer, batch: Batch) -> Side:
    pixels = torch.from_numpy(batch.images)
    labels = None if batch.labels is None else torch.from_numpy(batch.labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = trainer.step(pixels, labels)
        _require_finite("PyTorch", loss.item())

    return run


def make_trainer(experiment: Experiment) -> torch_gan.Trainer:
    """The PyTorch side of an experiment.

    Raises:
        InputError: the experiment has a part that is not written in PyTorch here.
    """
    game, config = experiment.game, experiment.config
    _require_known("game.name", config["game"]["name"], ["image_gan.GAN"])
    for player in ("Generator", "Discriminator"):
        name = config[player.lower()]["name"]
        _require_known(f"{player.lower()}.name", name, [f"attn_cgan.{player}"])
    _require_known("loss", config["loss"], [{"name": name} for name in torch_gan.LOSSES])
    for name in config["penalties"]:
        _require_known("penalties", name, ["r1"])
    _require_known("augmentations", config["augmentations"], [{}])
    for player, spec in config["optimizers"].items():
        _require_known(f"optimizers.{player}.name", spec["name"], ["adam"])
        for option in spec:
            _require_known(f"optimizers.{player}", option, ["name", *torch_gan.ADAM_OPTIONS])
    size, _, channels = experiment.train.image_shape
    return torch_gan.Trainer(
        _network(torch_attn_cgan.Generator, game.generator, latent=game.latent),
        _network(torch_attn_cgan.Discriminator, game.discriminator, size=size, channels=channels),
        torch_gan.LOSSES[config["loss"]["name"]],
        game.latent,
        config["penalties"].get("r1", 0.0),
        config["optimizers"],
        config["ema_decay"],
    )


def check_parameters(params: dict[str, Any], trainer: torch_gan.Trainer) -> None:
    """Prints the trainable parameters of each player, which have to be the same."""
    for player, tree in params.items():
        ours = sum(leaf.size for leaf in jax.tree.leaves(tree))
        theirs = sum(leaf.numel() for leaf in getattr(trainer, player).parameters())
        assert ours == theirs, f"{player}: {ours} parameters in gaxn, {theirs} in PyTorch"
        print(f"{player}: {ours:,} parameters")


def _network(make: Callable, module: nn.Module, **inferred: Any) -> torch.nn.Module:
    """The network of a Flax module: what its fields and what Flax infers make of `make`."""
    known = inspect.signature(make).parameters
    names = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
    for name in names - known.keys():
        # A field that PyTorch's network lacks has to be at rest.
        value = getattr(module, name)
        _require_known(f"{type(module).__name__}.{name}", value, [getattr(type(module), name)])
    return make(**{name: getattr(module, name) for name in names & known.keys()}, **inferred)


def _require_known(field: str, value: Any, known: list) -> None:
    if value not in known:
        shown = ", ".join(map(str, known))
        raise InputError(f"config.{field} is {value}; this benchmark knows {shown}")


def _require_finite(side: str, loss: float) -> None:
    assert math.isfinite(loss), f"{side}: the loss is {loss}"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
