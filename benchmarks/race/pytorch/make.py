"""Makes the PyTorch side of an experiment of gaxn."""

import ctypes
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as flax_nn
import jax
import jax.numpy as jnp
import optax
import torch
from torch import nn

from benchmarks.race.pytorch import (
    attn_cgan,
    cyclegan,
    cyclegan_trainer,
    dcgan,
    mlp,
    sagan,
    sagan_resnet,
    transformer_gan,
    weights,
)
from benchmarks.race.pytorch.augmentations import AUGMENTATIONS
from benchmarks.race.pytorch.gan_trainer import Trainer
from benchmarks.race.pytorch.losses import LOSSES
from benchmarks.race.pytorch.population_trainer import PopulationTrainer
from gaxn.config import bind
from gaxn.experiment import Experiment
from gaxn.experiment.schedules import with_schedules
from gaxn.experiment.settings import complete
from gaxn.gans.cyclegan import Pair
from gaxn.objectives import schedules
from gaxn.training.state import TrainState
from gaxn.types import check

DEFAULTS = (
    *("networks", "regularizers", "objective", "start"),
    *("accumulation_steps", "ema_halflife_kimg"),
)
"""Fields of a config that no trainer reads."""

MALLOC_OPTIONS = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}
"""Of mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""

ADAM_OPTIONS = ("name", "learning_rate", "b1", "b2")
NETWORKS = {
    f"{module.__name__.rpartition('.')[2]}.{player}": getattr(module, player)
    for module in (attn_cgan, cyclegan, dcgan, mlp, sagan, sagan_resnet, transformer_gan)
    for player in ("Generator", "Discriminator")
}


def make_trainer(experiment: Experiment, device: str, form: str) -> Trainer | PopulationTrainer:
    """Returns the PyTorch side of an experiment, with the weights of the state at step 0.

    Args:
        experiment: the experiment.
        device: "cpu" or "cuda".
        form: "eager", "compiled" or "graphs".

    Raises:
        InputError: a part of the experiment is not written in PyTorch.
    """
    (prepare_cpu if device == "cpu" else prepare_gpu)()
    check_defaults(experiment, *DEFAULTS)
    if len(experiment.members) > 1:
        make = make_population_trainer
    elif experiment.config["gan"]["name"] == "cyclegan.CycleGAN":
        make = make_cyclegan_trainer
    else:
        make = make_gan_trainer
    trainer = make(experiment, device, form)
    load(trainer, experiment.create_state(experiment.key))
    return trainer


def prepare_cpu() -> None:
    """Sets the process to numbers and memory that are fast on a CPU."""
    # Numbers below 1e-38 slow a CPU down. XLA takes them for 0, too.
    torch.set_flush_denormal(True)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # glibc keeps what is freed; else every step waits for new pages, a tenth of its time.
        for option, value in MALLOC_OPTIONS.items():
            libc.mallopt(option, value)


def prepare_gpu() -> None:
    """Sets PyTorch to products in TF32, as in JAX, and to the fastest convolutions."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def load(trainer: Trainer | PopulationTrainer, state: TrainState) -> None:
    """Copies the networks' weights and statistics of a state into a trainer."""
    state = jax.device_get(state)
    for player, network in trainer.networks.items():
        collections = {
            name: variables[player]
            for name, variables in state.collections.items()
            if player in variables
        }
        weights.load(network, state.params[player], collections)
    trainer.ema.restart()


def make_gan_trainer(experiment: Experiment, device: str, form: str) -> Trainer:
    """Returns the trainer of a `gan.GAN`, with weights of no meaning."""
    gan, config = experiment.gan, experiment.config
    check_known("gan.name", config["gan"]["name"], ["gan.GAN"])
    check_defaults(experiment, "update_rule")
    r1 = config["penalties"].get("r1", {"weight": 0.0})
    check_known("penalties", config["penalties"], [{}, {"r1": {"weight": r1.get("weight")}}])
    for name in config["augmentations"]:
        check_known("augmentations", name, AUGMENTATIONS)
    size, _, channels = experiment.train_source.image_shape
    return Trainer(
        make_network(config["generator"]["name"], gan.generator, latent_size=gan.latent_size),
        make_network(
            config["discriminator"]["name"], gan.discriminator, size=size, channels=channels
        ),
        make_loss(config["loss"]),
        r1["weight"],
        [
            bind(AUGMENTATIONS[name], options, f"config.augmentations.{name}")
            for name, options in config["augmentations"].items()
        ],
        gan.latent_size,
        [update.player for update in experiment.updates],
        make_optimizer_options(experiment),
        config["ema_decay"],
        device,
        form,
    )


def make_population_trainer(experiment: Experiment, device: str, form: str) -> PopulationTrainer:
    """Returns the trainer of a population on points, with weights of no meaning."""
    gan, config, members = experiment.gan, experiment.config, len(experiment.members)
    check_known("gan.name", config["gan"]["name"], ["gan.GAN"])
    check_known("update_rule", config["update_rule"], [{"name": "simultaneous"}])
    check_defaults(experiment, "penalties", "augmentations")
    loss = make_loss(config["loss"])
    check_known("loss.name", config["loss"]["name"], [name for name in LOSSES if not loss.paired])
    (features,) = experiment.train_source.image_shape
    return PopulationTrainer(
        make_network(
            config["generator"]["name"],
            gan.generator,
            members=members,
            latent_size=gan.latent_size,
        ),
        make_network(
            config["discriminator"]["name"],
            gan.discriminator,
            members=members,
            features=features,
        ),
        loss,
        members,
        gan.latent_size,
        make_optimizer_options(experiment),
        config["ema_decay"],
        device,
        form,
    )


def make_cyclegan_trainer(
    experiment: Experiment, device: str, form: str
) -> cyclegan_trainer.Trainer:
    """Returns the trainer of a `cyclegan.CycleGAN`, with weights of no meaning."""
    gan, config = experiment.gan, experiment.config
    check_defaults(experiment, "update_rule", "augmentations")
    wgan_gp = config["penalties"].get("wgan_gp", {"weight": 0.0})
    known = [{}, {"wgan_gp": {"weight": wgan_gp.get("weight")}}]
    check_known("penalties", config["penalties"], known)
    loss = make_loss(config["loss"])
    expected = "a loss whose generator's side reads no real logits in this benchmark"
    check("config.loss.name", config["loss"]["name"], not loss.paired, expected)
    weights_of_terms = gan.adversarial, gan.cycle, gan.identity, wgan_gp["weight"]
    numbers = all(isinstance(weight, int | float) for weight in weights_of_terms)
    check("the weights of the terms", weights_of_terms, numbers, "numbers in this benchmark")
    *_, side, channels = experiment.train_source.image_shape

    def make_pair(player: str, pair: Pair, **inferred: int) -> cyclegan.Pair:
        name = config[player]["name"]
        return cyclegan.Pair(
            make_network(name, pair.a, **inferred), make_network(name, pair.b, **inferred)
        )

    return cyclegan_trainer.Trainer(
        make_pair("generator", gan.generator),
        make_pair("discriminator", gan.discriminator, channels=channels),
        loss,
        cyclegan_trainer.Weights(*weights_of_terms),
        gan.size,
        side - gan.size,
        gan.mirror,
        gan.history,
        experiment.settings.batch_size,
        channels,
        [update.player for update in experiment.updates],
        make_optimizer_options(experiment),
        config["ema_decay"],
        device,
        form,
    )


def make_loss(spec: Mapping[str, Any]) -> Any:
    """Returns the loss of a config."""
    check_known("loss.name", spec["name"], LOSSES)
    options = {name: value for name, value in spec.items() if name != "name"}
    return bind(LOSSES[spec["name"]], options, "config.loss")


def make_optimizer_options(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Returns the options of `optimization.Optimizer` by player."""
    settings = experiment.settings
    run_length = schedules.RunLength(settings.num_train_steps, settings.batch_size)
    players = [update.player for update in experiment.updates]
    options = {}
    for player, spec in settings.optimizers.items():
        check_known(f"optimizers.{player}.name", spec["name"], ["adam"])
        for option in spec:
            check_known(f"optimizers.{player}", option, ADAM_OPTIONS)
        field = f"config.optimizers.{player}"
        spec = with_schedules(spec, field, run_length, players.count(player))
        rate = spec["learning_rate"]
        is_schedule = isinstance(rate, schedules.Schedule)
        lines = not is_schedule or rate.segment is optax.linear_schedule
        check(f"{field}.learning_rate", rate, lines, "a number, or linear")
        points = rate.points if is_schedule else ((0, rate),)
        moments = {name: spec[name] for name in ("b1", "b2") if name in spec}
        options[player] = {"learning_rate": points, **moments}
    return options


def make_network(name: str, module: flax_nn.Module, **inferred: Any) -> nn.Module:
    """Returns the PyTorch network with the fields of a Flax module, and the inferred sizes."""
    check_known("a network's name", name, NETWORKS)
    make: Callable = NETWORKS[name]
    known = inspect.signature(make).parameters
    fields = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
    for field in fields - known.keys():
        # The PyTorch network lacks this option, so it has to be at its default.
        value = getattr(module, field)
        check_known(f"{name}.{field}", value, [getattr(type(module), field)])
    values = {field: getattr(module, field) for field in fields & known.keys()}
    if "dtype" in values:
        values["dtype"] = torch.bfloat16 if values["dtype"] == jnp.bfloat16 else None
    return make(**values, **inferred)


def check_defaults(experiment: Experiment, *fields: str) -> None:
    """Raises an InputError unless these fields of the config are at their defaults."""
    defaults = complete({})
    for field in fields:
        check_known(field, experiment.config[field], [defaults[field]])


def check_known(field: str, value: Any, known: Any) -> None:
    """Raises an InputError unless a value is among those that are written in PyTorch."""
    names = " or ".join(map(str, known))
    check(f"config.{field}", value, value in known, f"{names} in this benchmark")
