"""The fields of an experiment's config, and their defaults."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gaxn.config import defaults, resolve
from gaxn.evaluation.plan import make_plan
from gaxn.objectives.objective import make_objective
from gaxn.training.fine_tuning import StartOptions
from gaxn.training.growing import GrowingOptions
from gaxn.types import check

MAX_COLUMNS = 50
"""Columns of a sample grid, which may be a square."""


DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
"""Types of activations by their name in a config; None for that of the parameters."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of an experiment's config.

    A dict with a "name" names a constructor; the other fields are its arguments.

    Attributes:
        seed: seed of all random numbers, 0 to 2^32 - 1.
        num_train_steps: training steps of the run.
        batch_size: real examples per update of a player, over all devices.
        ema_decay: decay of the moving average of the generator's parameters, at least 0 and
            below 1; at most (1 + n) / (10 + n) after n steps.
        ema_halflife_kimg: half-life of the moving average, in thousands of real images; above 0 it
            takes the place of `ema_decay`.
        data: the data set, a module of gaxn/data.
        gan: the kind of GAN, a class of gaxn/gans.
        generator, discriminator: the network of this player, a class of gaxn/models.
        loss: the adversarial loss, a function of gaxn/objectives/losses.py.
        optimizers: by player, an optimizer of optax and its parameters, numbers or schedules;
            besides these `clip` (bound of the weights) and `orthogonal` (weight of orthogonal
            regularization).
        evaluation: samples, metrics and checkpoints of evaluations, arguments of `make_plan` in
            gaxn/evaluation/plan.py.
        run: intervals between logs, samples and checkpoints, fields of `RunOptions`.
        conditional: whether the networks get the labels of the images.
        discriminator_steps, generator_steps: updates of this player per training step, each with
            new images.
        update_rule: the order of the players' updates, a function of
            gaxn/training/update_rules.py.
        networks: by name, networks that a GAN has besides generator and discriminator.
        penalties: by name, gradient penalties of the discriminator, arguments of the functions in
            gaxn/objectives/penalties.py.
        regularizers: by name, further terms of the losses, arguments of the functions in
            gaxn/objectives/regularizers.py.
        augmentations: by name, random changes of all images that the discriminator sees,
            arguments of the functions in gaxn/objectives/augmentations.py.
        objective: packing, top-k training and adaptive augmentation, arguments of
            `make_objective` in gaxn/objectives/objective.py.
        population: number of runs, of seed, seed + 1, ..., that are trained at once.
        accumulation_steps: micro-batches into which a batch is divided to save memory, a divisor
            of batch_size; all statistics of a batch, such as BatchNorm's, means within losses and
            the ranks of top-k training, are then those of a micro-batch.
        dtype: type of activations, "float32", or "bfloat16" with networks that have a field
            `dtype`, as all of gaxn do.
        parallel: how the step runs on several devices: "auto" (one program, each device has a
            copy of the state), "sharded" (one program, devices share a state) or "pmap" (one
            program per device).
        shards: devices that share one copy of a state if `parallel` is "sharded"; 0 for all.
        steps_per_call: training steps that one call of the compiled program makes, without the
            host; 0 chooses, up to 32, but 1 for convolutions on CPUs. It changes the trajectory
            by rounding alone.
        start: trained networks that the run starts from, and layers that stay as they are.
        text: the encoder of captions, a module of gaxn/features/text; a conditional run then has
            sentences in place of labels. {} for labels.
        growing: the resolutions with which the networks grow, and when; {} for networks that do
            not.
    """

    seed: int
    num_train_steps: int
    batch_size: int
    ema_decay: float | dict
    data: dict
    gan: dict
    generator: dict
    discriminator: dict
    loss: dict
    optimizers: dict
    evaluation: dict
    run: dict
    ema_halflife_kimg: float | dict = 0.0
    conditional: bool = False
    discriminator_steps: int = 1
    generator_steps: int = 1
    update_rule: dict = dataclasses.field(default_factory=lambda: {"name": "alternating"})
    networks: dict = dataclasses.field(default_factory=dict)
    penalties: dict = dataclasses.field(default_factory=dict)
    regularizers: dict = dataclasses.field(default_factory=dict)
    augmentations: dict = dataclasses.field(default_factory=dict)
    objective: dict = dataclasses.field(default_factory=dict)
    population: int = 1
    accumulation_steps: int = 1
    dtype: str = "float32"
    parallel: str = "auto"
    shards: int = 0
    steps_per_call: int = 0
    start: dict = dataclasses.field(default_factory=dict)
    text: dict = dataclasses.field(default_factory=dict)
    growing: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2^32 - 1")
        for name in (
            *("num_train_steps", "batch_size", "discriminator_steps", "generator_steps"),
            "population",
        ):
            check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        divides = self.accumulation_steps >= 1 and self.batch_size % self.accumulation_steps == 0
        expected = f"a divisor of config.batch_size, {self.batch_size}"
        check("accumulation_steps", self.accumulation_steps, divides, expected)
        check("steps_per_call", self.steps_per_call, self.steps_per_call >= 0, "0 or more")
        check("dtype", self.dtype, self.dtype in DTYPES, " or ".join(DTYPES))


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The fields of `config.run`.

    Attributes:
        log_every: steps between two lines of metrics.jsonl.
        sample_every: steps between two pictures of samples, each with diagnostics.
        checkpoint_every: steps between two checkpoints.
        keep: how many of the last checkpoints are kept.
        sample_columns: columns of the sample grid; of a CycleGAN, test images of each domain.
        stuck_after: seconds without a finished step after which the process ends with status 18.
        accept_new_data: whether the run goes on if its data have changed, in the same shapes and
            classes.
        writers: where scalars and pictures go besides files: "tensorboard", "wandb".
    """

    log_every: int
    sample_every: int
    checkpoint_every: int
    keep: int
    sample_columns: int
    stuck_after: float = 3600.0
    accept_new_data: bool = False
    writers: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("log_every", "sample_every", "checkpoint_every", "keep", "sample_columns"):
            check(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        most = self.sample_columns <= MAX_COLUMNS
        check("sample_columns", self.sample_columns, most, f"{MAX_COLUMNS} or fewer")
        valid = 0 < self.stuck_after < math.inf
        check("stuck_after", self.stuck_after, valid, "above 0 and finite, in seconds")


SECTIONS = {
    "evaluation": make_plan,
    "growing": GrowingOptions,
    "objective": make_objective,
    "run": RunOptions,
    "start": StartOptions,
}
"""By the name of a field that holds fields without a name, whose parameters these are."""


def defaults_of(config: ConfigDict, path: Sequence[str]) -> Mapping[str, Any]:
    """Returns the fields that a config may leave out within one of its fields, with defaults.

    Args:
        config: the config.
        path: of the field; empty for the config itself.
    """
    if "lab" in config:
        return {}
    homes = {
        "data": ("data", "Source"),
        "gan": ("gans", ""),
        "generator": ("models", ""),
        "discriminator": ("models", ""),
        "loss": ("objectives.losses", ""),
        "update_rule": ("training.update_rules", ""),
        **({"text": ("features.text", "load")} if config.get("text") else {}),
    }
    match list(path):
        case []:
            return defaults(Settings)
        case [section] if section in SECTIONS:
            return defaults(SECTIONS[section])
        case [field] if field in homes:
            home, attribute = homes[field]
            return defaults(
                resolve(home, config[field].get("name"), f"config.{field}.name", attribute)
            )
        case ["data", "a" | "b" as domain]:
            spec = config.data[domain]
            return defaults(
                resolve("data", spec.get("name"), f"config.data.{domain}.name", "Source")
            )
        case ["optimizers", player]:
            make = getattr(optax, str(config.optimizers[player].get("name")), None)
            options = defaults(make) if callable(make) else {}
            numbers = {k: v for k, v in options.items() if isinstance(v, int | float)}
            # Zeros stand for their type; an optimizer without them has neither.
            return {"clip": 0.0, "orthogonal": 0.0, **numbers}
        case ["networks", name]:
            return defaults(
                resolve("models", config.networks[name].get("name"), f"config.networks.{name}.name")
            )
        case ["penalties" | "regularizers" | "augmentations" as kind, name]:
            return defaults(resolve(f"objectives.{kind}", name, f"config.{kind}"))
        case ["regularizers", name, "extractor"]:
            spec, field = config.regularizers[name].extractor, "config.regularizers"
            make = resolve("features", spec.get("name"), f"{field}.{name}.extractor.name", "load")
            return defaults(make)
    return {}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config's fields with the defaults of those that it leaves out; plain dicts."""
    fields = {**defaults(Settings), **config}
    sections = {
        section: {**defaults(make), **fields.get(section, {})} for section, make in SECTIONS.items()
    }
    return fields | sections
