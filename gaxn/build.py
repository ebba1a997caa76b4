"""From a config to an `Experiment` or a `LabRun`: the only reader of a ConfigDict.

The keyword parameters of `_experiment` are the fields of a config; those of the
constructors that they name are the fields within. A config with a field `lab` has the
fields of that lab instead.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gaxn import evaluations, grids, mesh, parts, state
from gaxn.data import Counted, Source, Unpaired, describe, outline
from gaxn.experiment import Experiment
from gaxn.feed import make_feed
from gaxn.games.cyclegan import CycleGan
from gaxn.labs import LabRun
from gaxn.losses import Loss
from gaxn.population import Member, members, together
from gaxn.sampling import Choice, make_subject
from gaxn.schema import bind, defaults, instance, named, resolve
from gaxn.sentinels import Watch, make_translation_watch, make_watch
from gaxn.step import make_step
from gaxn.translation import in_order, make_translator
from gaxn.turns import Turn
from gaxn.types import InputError, require
from gaxn.updates import alternating, simultaneous

PLACES = {
    "data": ("data", "Source"),
    "updates": ("updates", "Update"),
    "game": ("games", ""),
    "generator": ("models", ""),
    "discriminator": ("models", ""),
}
"""Where the name within a field of a config resolves: a folder, and what its files all offer."""

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}
"""What networks compute in, by its name in a config; None for what their parameters are."""


def optional() -> dict[str, Any]:
    """The fields that a config may leave out, with what they are then."""
    return defaults(_experiment)


def optional_within(field: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same of what stands in a field: those that its constructor has defaults for.

    Raises:
        InputError: the spec names nothing that there is.
    """
    return defaults(named(*PLACES[field], spec, f"config.{field}")) if field in PLACES else {}


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
    generator_turns: int = 1,
    ema_decay: float,
    conditional: bool,
    population: int = 1,
    accumulate: int = 1,
    dtype: str = "float32",
    parallel: str,
    shards: int = 0,
    data: dict,
    updates: dict,
    game: dict,
    generator: dict,
    discriminator: dict,
    loss: dict,
    penalties: dict,
    regularizers: dict = {},  # noqa: B006 (never changed)
    augmentations: dict,
    objective: dict = defaults(parts.make_objective),  # noqa: B008
    optimizers: dict,
    evaluation: dict,
    run: dict,
) -> Experiment:
    require("config.seed", seed, 0 <= seed < 2**32, "0 to 2^32 - 1")
    require("config.steps", steps, steps >= 1, "1 or more")
    require("config.batch", batch, batch >= 1, "1 or more")
    require("config.critic_turns", critic_turns, critic_turns >= 1, "1 or more")
    require("config.generator_turns", generator_turns, generator_turns >= 1, "1 or more")
    require("config.ema_decay", ema_decay, 0 <= ema_decay < 1, "0 or more and below 1")
    require("config.population", population, population >= 1, "1 or more")
    divides = accumulate >= 1 and batch % accumulate == 0
    require("config.accumulate", accumulate, divides, f"a divisor of config.batch, {batch}")
    require("config.dtype", dtype, dtype in DTYPES, " or ".join(DTYPES))
    placement = given_placement or mesh.placement(parallel, batch, population, accumulate, shards)
    train, test = (_part("data", data, split=split) for split in ("train", "test"))
    derived = _derived(test, conditional)
    if isinstance(train, Counted) and isinstance(test, Counted):
        print(f"{name}: {describe(train, test)}", flush=True)
    adversarial = parts.make_loss(loss)
    players = _part(
        "game",
        game,
        conditional=conditional,
        size=derived.get("size"),
        generator=_network("generator", generator, dtype, derived),
        discriminator=_network("discriminator", discriminator, dtype, derived),
        objective=bind(
            parts.make_objective,
            objective,
            "config.objective",
            loss=adversarial,
            penalties=tuple(itertools.starmap(parts.make_penalty, penalties.items())),
            regularizers=tuple(itertools.starmap(parts.make_regularizer, regularizers.items())),
            augmentations=tuple(itertools.starmap(parts.make_augmentation, augmentations.items())),
        ),
    )
    translates = isinstance(train, Unpaired)
    if isinstance(players, CycleGan) != translates:
        valid = "cyclegan.cyclegan" if translates else "one of single images, or of points,"
        name = data["name"]
        raise InputError(f"config.game.name is {game['name']!r}; valid is {valid} with {name} data")
    update = _part("updates", updates)
    if translates and players.history:
        valid = "alternating or simultaneous with a history of images; others with a history of 0"
        holds = isinstance(update, alternating.Update | simultaneous.Update)
        require("config.updates.name", updates["name"], holds, valid)
    valid = "one that generates no images of its own, with cyclegan"
    require("config.regularizers", "zcr", not (translates and "zcr" in regularizers), valid)
    moves = {player: parts.make_optimizer(optimizers, player) for player in parts.PLAYERS}
    d_turn, g_turn = (
        Turn(player, getattr(type(players), f"{player}_loss"), moves[player], accumulate)
        for player in parts.PLAYERS
    )
    turns = (d_turn,) * critic_turns + (g_turn,) * generator_turns
    runs = members(seed, population)
    key = together(runs)
    create = _creator(players, moves, train, batch, population)
    jax.eval_shape(create, key)
    make_sight = _sight_of_translation if translates else _sight_of_generation
    sight = make_sight(players, adversarial, runs, train, test, derived["classes"])
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
        subject=sight.subject(Choice()),
        grid=sight.grid,
        evaluation=bind(
            evaluations.plan,
            evaluation,
            "config.evaluation",
            train=train,
            test=test,
            conditional=conditional,
            subject=sight.subject,
            start=lambda: jax.device_get(create(key)),
        ),
        watch=sight.watch,
        members=runs,
        batch=batch,
        steps=steps,
    )


class _Sight(NamedTuple):
    """What is seen of a state: it differs by the kind of game.

    Attributes:
        subject: a choice of weights -> what makes a `Subject`, or a `Translator`, of a state.
        grid: the picture of a state.
        watch: what tells of a collapse.
    """

    subject: Callable[[Choice], Callable]
    grid: grids.Grid
    watch: Watch


def _sight_of_generation(
    players: Any,
    loss: Loss,
    runs: Sequence[Member],
    train: Source,
    test: Source,
    classes: int | None,
) -> _Sight:
    points = len(train.image_shape) == 1
    return _Sight(
        # What draws samples and what measures them share programs.
        functools.cache(functools.partial(make_subject, players, runs, classes)),
        grids.of_points(test, runs) if points else grids.of_images(classes),
        make_watch(players, loss, runs, train, classes is not None),
    )


def _sight_of_translation(
    players: Any, loss: Loss, runs: Sequence[Member], train: Unpaired, test: Unpaired, classes: None
) -> _Sight:
    readers = tuple(map(in_order, test.domains))
    return _Sight(
        functools.cache(functools.partial(make_translator, players, runs, readers)),
        grids.of_translations(readers),
        make_translation_watch(players, loss, runs, test),
    )


def _part(field: str, spec: Mapping[str, Any], **derived: Any) -> Any:
    """What a field of a config names."""
    folder, attribute = PLACES[field]
    return instance(folder, spec, f"config.{field}", attribute, **derived)


def _network(
    field: str, spec: Mapping[str, Any], dtype: str, derived: Mapping[str, int | None]
) -> Any:
    """A player, which computes in a type.

    Raises:
        InputError: this one cannot.
    """
    made = _part(field, spec, dtype=DTYPES[dtype], **derived)
    holds = dtype == "float32" or hasattr(made, "dtype")
    require("config.dtype", dtype, holds, f"float32 with the {field} {spec['name']}")
    return made


def _derived(source: Source, conditional: bool) -> dict[str, int | None]:
    """What networks have to know of the data."""
    if len(source.image_shape) == 1:
        require("config.conditional", conditional, not conditional, "False with points")
        return {"features": source.image_shape[0], "classes": None}
    height, width, channels = source.image_shape[-3:]
    require("the image's height and width", (height, width), height == width, "equal")
    classes = len(source.class_names)
    if conditional and classes < 2:
        raise InputError(
            "config.conditional is True; valid is False, or data with 2 classes or more: "
            f"{source.identity} has {classes}"
        )
    return {"size": height, "channels": channels, "classes": classes if conditional else None}


def _creator(
    players: Any, moves: Mapping[str, Any], train: Source, batch: int, population: int
) -> Callable:
    example = outline(train, (batch,))

    def create(key):
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        return state.create(players, moves, blank, key)

    # On a CPU the draws of each shape of weights compile for a second, and for a fifth this way.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(create if population == 1 else jax.vmap(create), compiler_options=options)
