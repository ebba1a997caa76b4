"""From a config to an `Experiment` or a `LabRun`: the only reader of a ConfigDict.

The keyword parameters of `_experiment` are the fields of a config; those of the
constructors that they name are the fields within. A config with a field `lab` has the
fields of that lab instead.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gaxn import evaluations, mesh, parts, state
from gaxn.data import Counted, Source, describe, outline
from gaxn.experiment import Experiment
from gaxn.feed import make_feed
from gaxn.labs import LabRun
from gaxn.population import members, together
from gaxn.sampling import Choice, make_subject
from gaxn.schema import bind, defaults, instance, resolve
from gaxn.sentinels import make_watch
from gaxn.step import make_step
from gaxn.turns import Turn
from gaxn.types import InputError, require


def optional() -> dict[str, Any]:
    """The fields that a config may leave out, with what they are then."""
    return defaults(_experiment)


def build(
    config: ConfigDict, name: str, placement: mesh.Placement | None = None
) -> Experiment | LabRun:
    """Resolves every name and every derived number of a config, once.

    Args:
        config: the fields of an experiment, or of a lab.
        name: what the run is called, by default that of the config's file.
        placement: how the step runs, instead of over all devices as `config.parallel` says.

    Raises:
        InputError: a field is unknown, missing, of the wrong type or out of range.
    """
    fields = config.to_dict()
    if "lab" in fields:
        return _lab_run(name, fields)
    return bind(_experiment, fields, "config", name=name, fields=fields, given_placement=placement)


def _lab_run(name: str, fields: Mapping[str, Any]) -> LabRun:
    spec = dict(fields)
    lab = resolve("labs", f"{spec.pop('lab')}.Lab", "config.lab")
    return LabRun(name, fields, bind(lab, spec, "config"))


def _experiment(
    name: str,
    fields: Mapping[str, Any],
    given_placement: mesh.Placement | None,
    *,
    seed: int,
    steps: int,
    batch: int,
    critic_turns: int,
    ema_decay: float,
    conditional: bool,
    population: int = 1,
    parallel: str,
    data: dict,
    updates: dict,
    game: dict,
    generator: dict,
    discriminator: dict,
    loss: dict,
    penalties: dict,
    augmentations: dict,
    optimizers: dict,
    evaluation: dict,
    run: dict,
) -> Experiment:
    require("config.seed", seed, 0 <= seed < 2**32, "0 to 2^32 - 1")
    require("config.steps", steps, steps >= 1, "1 or more")
    require("config.batch", batch, batch >= 1, "1 or more")
    require("config.critic_turns", critic_turns, critic_turns >= 1, "1 or more")
    require("config.ema_decay", ema_decay, 0 <= ema_decay < 1, "0 or more and below 1")
    require("config.population", population, population >= 1, "1 or more")
    placement = given_placement or mesh.placement(parallel, batch, population)
    train, test = (
        instance("data", data, "config.data", "Source", split=split) for split in ("train", "test")
    )
    derived = _derived(train, conditional)
    if isinstance(train, Counted) and isinstance(test, Counted):
        print(f"{name}: {describe(train, test)}", flush=True)
    players = instance(
        "games",
        game,
        "config.game",
        generator=instance("models", generator, "config.generator", **derived),
        discriminator=instance("models", discriminator, "config.discriminator", **derived),
        loss=parts.make_loss(loss),
        penalties=tuple(parts.make_penalty(name, weight) for name, weight in penalties.items()),
        augmentations=tuple(
            parts.make_augmentation(name, options) for name, options in augmentations.items()
        ),
    )
    moves = {player: parts.make_optimizer(optimizers, player) for player in parts.PLAYERS}
    d_turn, g_turn = (
        Turn(player, getattr(type(players), f"{player}_loss"), moves[player])
        for player in parts.PLAYERS
    )
    turns = (d_turn,) * critic_turns + (g_turn,)
    update = instance("updates", updates, "config.updates", "Update")
    runs = members(seed, population)
    key = together(runs)
    create = _creator(players, moves, train, batch)
    create = create if population == 1 else jax.jit(jax.vmap(create))
    jax.eval_shape(create, key)
    subject = functools.partial(make_subject, players, runs, derived["classes"])
    return bind(
        Experiment,
        run,
        "config.run",
        name=name,
        config=fields,
        key=key,
        train=train,
        test=test,
        conditional=conditional,
        game=players,
        turns=turns,
        create=create,
        step=make_step(players, turns, ema_decay, update),
        feed=make_feed(train, runs, len(turns), batch, placement),
        placement=placement,
        subject=subject(Choice()),
        evaluation=bind(
            evaluations.plan,
            evaluation,
            "config.evaluation",
            train=train,
            test=test,
            conditional=conditional,
            subject=subject,
        ),
        watch=make_watch(players, runs, train, conditional),
        members=runs,
        batch=batch,
        steps=steps,
    )


def _derived(source: Source, conditional: bool) -> dict[str, int | None]:
    """What networks have to know of the data."""
    if len(source.image_shape) == 1:
        require("config.conditional", conditional, not conditional, "False with points")
        return {"features": source.image_shape[0], "classes": None}
    height, width, channels = source.image_shape
    require("the image's height and width", (height, width), height == width, "equal")
    classes = len(source.class_names)
    if conditional and classes < 2:
        raise InputError(
            "config.conditional is True; valid is False, or data with 2 classes or more: "
            f"{source.identity} has {classes}"
        )
    return {"size": height, "channels": channels, "classes": classes if conditional else None}


def _creator(players: Any, moves: Mapping[str, Any], train: Source, batch: int) -> Callable:
    example = outline(train, (batch,))

    @jax.jit
    def create(key):
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        return state.create(players, moves, blank, key)

    return create
